package commands

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/transfer"
)

// usualJobs is what a network of some latency needs, and a small machine bears.
const usualJobs = 8

// addJobs adds --jobs to a command that makes many requests.
func (o *remoteOptions) addJobs(cmd *cobra.Command) {
	o.Jobs = usualJobs
	cmd.Flags().VarP((*jobsValue)(&o.Jobs), "jobs", "j", "do `N` things at the same time")
}

// jobsValue is a number from 1 up, as a flag.
type jobsValue int

func (v *jobsValue) String() string { return strconv.Itoa(int(*v)) }

func (v *jobsValue) Type() string { return "int" }

func (v *jobsValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return errors.New("a number from 1 up is needed")
	}
	*v = jobsValue(n)
	return nil
}

// addReferrers adds --referrers to a command that copies images.
func addReferrers(cmd *cobra.Command, r *transfer.Referrers, usual transfer.Referrers) {
	*r = usual
	cmd.Flags().Var((*referrersValue)(r), "referrers", "signatures and the like: copied, always or never")
	words := cobra.FixedCompletions([]cobra.Completion{"copied", "always", "never"}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("referrers", words) // The flag is there.
}

// referrersValue is a [transfer.Referrers] as a flag.
type referrersValue transfer.Referrers

func (v *referrersValue) String() string {
	switch transfer.Referrers(*v) {
	case transfer.ReferrersAlways:
		return "always"
	case transfer.ReferrersNever:
		return "never"
	}
	return "copied"
}

func (v *referrersValue) Type() string { return "WHICH" }

func (v *referrersValue) Set(s string) error {
	for _, r := range []transfer.Referrers{transfer.ReferrersCopied, transfer.ReferrersAlways, transfer.ReferrersNever} {
		if of := referrersValue(r); of.String() == s {
			*v = of
			return nil
		}
	}
	return errors.New("there is copied, always and never")
}

// bytes is what goes into the archive, but for what the tar file adds.
func (s *saver) bytes() int64 {
	total := int64(0)
	seen := map[oci.Digest]bool{}
	add := func(d oci.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			total += d.Size
		}
	}
	for _, c := range s.contents {
		for _, m := range c.Manifests {
			add(m.Descriptor)
		}
		for _, b := range c.Blobs {
			add(b)
		}
	}
	return total
}
