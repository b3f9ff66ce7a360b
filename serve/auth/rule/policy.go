package rule

// Policy is a list of rules, ready to decide. It is safe for concurrent use.
type Policy struct{ rules []Rule }
