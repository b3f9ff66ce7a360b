package rule

import (
	"errors"
	"fmt"
	"slices"
)

// Policy is a list of rules, ready to decide. It is safe for concurrent use. A
// nil one denies all.
type Policy struct {
	rules   []Rule
	parsed  []*parsed
	reasons []string // By the number of the rule; 0: there is none.
	index   index
}

// Problem is something that is wrong with a rule.
type Problem struct {
	Index int // Of the rule, from 0.
	Text  string
}

// Check returns all that is wrong with rules. With any of it they cannot be
// compiled.
func Check(rules []Rule) []Problem {
	var all []Problem
	for i := range rules {
		_, errs := parse(&rules[i])
		for _, err := range errs {
			all = append(all, Problem{i, err.Error()})
		}
	}
	return all
}

// Compile makes a list of rules ready to decide.
// Errors: all that [Check] finds, with the numbers and places of the rules.
func Compile(rules []Rule) (*Policy, error) {
	p := &Policy{rules: slices.Clone(rules), reasons: []string{noRule}}
	var all []error
	for i := range rules {
		r, errs := parse(&rules[i])
		for _, err := range errs {
			all = append(all, fmt.Errorf("%s: %w", place(i, &rules[i]), err))
		}
		p.parsed = append(p.parsed, r)
		reason := place(i, &rules[i])
		if rules[i].Because != "" {
			reason += ": " + rules[i].Because
		}
		p.reasons = append(p.reasons, reason)
	}
	if len(all) > 0 {
		return nil, errors.Join(all...)
	}
	p.index.build(p.parsed)
	return p, nil
}

const noRule = "no rule allows it"

// place is how people find a rule: "rule 3 (config.yml:12)".
func place(i int, r *Rule) string {
	if r.Where == "" {
		return fmt.Sprintf("rule %d", i+1)
	}
	return fmt.Sprintf("rule %d (%s)", i+1, r.Where)
}

// Rules are the rules of p, which nobody may change.
func (p *Policy) Rules() []Rule {
	if p == nil {
		return nil
	}
	return p.rules
}

// decision is the answer of rule number i, from 0; -1: none matched.
func (p *Policy) decision(i int) Decision {
	if i < 0 {
		return Decision{Reason: noRule}
	}
	return Decision{Allowed: p.parsed[i].allow, Rule: i + 1, Reason: p.reasons[i+1]}
}
