package commands

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// doubleDashes spells long flags that were typed with one dash with two, since
// that is all that pflag knows. A long name wins over a cluster of short ones.
// Values of flags and what follows "--" stay as they are.
func doubleDashes(root *cobra.Command, args []string) ([]string, error) {
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return completionArgs(root, args)
	}
	out := make([]string, 0, len(args))
	w := walker{cmd: root}
	for i, arg := range args {
		if arg == "--" && !w.value {
			return append(out, args[i:]...), nil
		}
		arg, err := w.next(arg)
		if err != nil {
			return nil, err
		}
		out = append(out, arg)
	}
	return out, nil
}

// completionArgs leaves the word that is being typed alone, and does not
// complain about any.
func completionArgs(root *cobra.Command, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	last := len(args) - 1
	typed, err := doubleDashes(root, args[1:last])
	if err != nil {
		return args, nil
	}
	return append(append([]string{args[0]}, typed...), args[last]), nil
}

// walker goes through a command line and knows what each word is.
type walker struct {
	cmd   *cobra.Command
	value bool // The next word is the value of a flag.
	words int  // Arguments seen that are neither flags nor commands.
}

// next returns arg as it should have been typed.
func (w *walker) next(arg string) (string, error) {
	switch {
	case w.value:
		w.value = false
		return arg, nil
	case strings.HasPrefix(arg, "--"):
		w.long(arg[2:])
		return arg, nil
	case strings.HasPrefix(arg, "-") && len(arg) > 1:
		if w.isLong(arg[1:]) {
			w.long(arg[1:])
			return "-" + arg, nil
		}
		w.cluster(arg[1:])
		return arg, nil
	}
	if err := longDash(arg); err != nil {
		return "", err
	}
	w.word(arg)
	return arg, nil
}

// isLong tells whether what follows a single dash is a long flag, or can be
// nothing else.
func (w *walker) isLong(s string) bool {
	name, _, _ := strings.Cut(s, "=")
	if utf8.RuneCountInString(name) < 2 {
		return false
	}
	return w.lookup(name) != nil || w.shorthand(name[:1]) == nil && !isDigit(name[0])
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (w *walker) long(s string) {
	name, _, attached := strings.Cut(s, "=")
	f := w.lookup(name)
	w.value = f != nil && f.NoOptDefVal == "" && !attached
}

// cluster reads short flags up to the first that takes a value: the rest of
// the cluster if there is any, else the next word.
func (w *walker) cluster(s string) {
	for i := range len(s) {
		f := w.shorthand(s[i : i+1])
		if f == nil {
			return
		}
		if f.NoOptDefVal == "" {
			w.value = i+1 == len(s)
			return
		}
	}
}

func (w *walker) word(arg string) {
	if w.words == 0 {
		for _, sub := range w.cmd.Commands() {
			if sub.Name() == arg || sub.HasAlias(arg) {
				w.cmd = sub
				return
			}
		}
	}
	w.words++
}

// lookup finds a long flag of the command or of those above it.
func (w *walker) lookup(name string) *pflag.Flag {
	if name == "help" || name == "version" && !w.cmd.HasParent() {
		return &pflag.Flag{NoOptDefVal: "true"} // Cobra adds them later.
	}
	return w.cmd.Flag(name)
}

func (w *walker) shorthand(c string) *pflag.Flag {
	if c == "h" {
		return &pflag.Flag{NoOptDefVal: "true"}
	}
	for cmd := w.cmd; cmd != nil; cmd = cmd.Parent() {
		if f := cmd.Flags().ShorthandLookup(c); f != nil && cmd == w.cmd {
			return f
		}
		if f := cmd.PersistentFlags().ShorthandLookup(c); f != nil {
			return f
		}
	}
	return nil
}

// longDash explains a flag that was pasted from a text whose typesetting
// turned its dash into a longer one.
func longDash(arg string) error {
	for dash, name := range map[string]string{"–": "an en dash", "—": "an em dash", "−": "a minus sign"} {
		if rest, ok := strings.CutPrefix(arg, dash); ok {
			return usagef("%q begins with %s; type --%s", arg, name, strings.TrimLeft(rest, "–—−-"))
		}
	}
	return nil
}

// registryPy before the name of a flag is the annotation of a command that
// explains what to type instead.
const registryPy = "registry.py:"

// flagError turns what pflag says into a usage error, with an explanation for
// flags that people know from registry.py.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if hint := cmd.Annotations[registryPy+unknown.GetSpecifiedName()]; hint != "" {
			dashes := "--"
			if len(unknown.GetSpecifiedName()) == 1 {
				dashes = "-"
			}
			return usagef("%s%s is a flag of registry.py; %s", dashes, unknown.GetSpecifiedName(), hint)
		}
	}
	return usagef("%v; see: %s --help", err, cmd.CommandPath())
}

// foreign answers the grammar of regclient's regctl with our spelling.
func foreign(args []string) error {
	var words []string
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			words = append(words, arg)
		}
	}
	if len(words) < 2 {
		return nil
	}
	ours := grammar()[words[0]+" "+words[1]]
	if ours == "" {
		return nil
	}
	return usagef("%q is the grammar of another regctl; here it is: regctl %s", words[0]+" "+words[1], ours)
}

// grammar is what to type for the commands of regclient's regctl.
func grammar() map[string]string {
	return map[string]string{
		"tag ls": "ls REPO", "tag list": "ls REPO", "tag rm": "rm REPO:TAG", "tag delete": "rm REPO:TAG",
		"repo ls": "ls HOST", "repo list": "ls HOST", "repo copy": "cp --all SRC DST", "repo cp": "cp --all SRC DST",
		"image copy": "cp SRC DST", "image cp": "cp SRC DST",
		"image inspect": "inspect REPO:TAG --config", "image config": "inspect REPO:TAG --config",
		"image manifest": "inspect REPO:TAG --raw", "manifest get": "inspect REPO:TAG --raw",
		"image digest": "inspect REPO:TAG -o go-template={{.digest}}", "manifest head": "inspect REPO:TAG -o go-template={{.digest}}",
		"image export": "save REPO:TAG -f FILE", "image import": "load FILE REPO:TAG",
		"artifact list": "inspect REPO:TAG", "artifact ls": "inspect REPO:TAG", "artifact tree": "inspect REPO:TAG",
		"manifest rm": "rm REPO@DIGEST", "manifest delete": "rm REPO@DIGEST",
		"registry login": "login HOST", "registry logout": "logout HOST",
	}
}
