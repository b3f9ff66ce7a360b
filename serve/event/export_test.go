package event

// SetMost sets how many events wait at most for one endpoint.
func (n *Notifier) SetMost(most int64) { n.most = most }
