package rule

// Step is what became of one rule on the way to a decision.
type Step struct {
	Rule int // From 1.

	// Passed says why the rule did not decide: it is not about "this caller",
	// "this action", "this repository", "this tag" or, if all else fits, "this
	// address". Empty: it decided.
	Passed string
}

// Explain tells how p comes to its decision: each rule that was held against
// what is asked, up to the one that decides.
func (p *Policy) Explain(s Subject, repo, tag string, a Action) []Step {
	if p == nil {
		return nil
	}
	var steps []Step
	for i := range p.parsed {
		step := Step{i + 1, p.passed(i, &s, repo, tag, a)}
		steps = append(steps, step)
		if step.Passed == "" {
			break
		}
	}
	return steps
}

// passed says why rule i does not decide; nothing if it does.
func (p *Policy) passed(i int, s *Subject, repo, tag string, a Action) string {
	r := p.parsed[i]
	single := index{}
	single.build([]*parsed{r})
	callers := single.of(s, nil)
	total := 0
	for _, f := range callers {
		total += len(f.all)
	}
	switch {
	case total == 0:
		return "this caller"
	case !r.actions.has(a):
		return "this action"
	}
	q, why := ask(repo, tag, a), "this repository"
	for _, f := range callers {
		v := vars{s.Name, f.groups}
		for j := range f.all {
			e := &f.all[j]
			switch {
			case e.matches(&q, &v) && r.at(s):
				return ""
			case e.matches(&q, &v):
				return "this address"
			case e.what.repo.match(repo, &v):
				why = "this tag"
			}
		}
	}
	return why
}
