package rule

// actionNames are the words for actions, by their numbers.
var actionNames = [...]string{Pull: "pull", Push: "push", Overwrite: "overwrite", Delete: "delete", List: "list"}

// String is the word for a.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// ParseAction returns the action that word names: "pull", "push", "overwrite",
// "delete" or "list".
func ParseAction(word string) (Action, bool) {
	for a, name := range actionNames {
		if name == word {
			return Action(a), true
		}
	}
	return 0, false
}

// Preset returns the rules that go by name: "open", "public-pull" or "private".
func Preset(name string) ([]Rule, bool) {
	const loggedIn = ": who has logged in may do everything"
	all := []string{"**"}
	private := Rule{Who: []string{"all"}, What: all, May: []string{"all"}, Because: name + loggedIn}
	switch name {
	case "open":
		return []Rule{{Who: []string{"everyone"}, What: all, May: []string{"all"}, Because: "open: everyone may do everything"}}, true
	case "public-pull":
		public := Rule{Who: []string{"anonymous"}, What: all, May: []string{"pull"}, Because: "public-pull: everyone may pull"}
		return []Rule{public, private}, true
	case "private":
		return []Rule{private}, true
	}
	return nil, false
}
