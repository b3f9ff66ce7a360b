package gc

// rank is why data stays. What is true of data several times counts as the
// highest. The zero rank is that of data nothing needs.
type rank uint8

const (
	unneeded rank = iota
	inDoubt
	inUse // Busy.
	inFrozen
	inUndo
	inUntagged
	isYoung
	living // A tag leads to it.
)

// reason returns what a report says of r, "" if it says nothing.
func (r rank) reason() Reason {
	return [...]Reason{
		inDoubt: KeptDoubt, inUse: KeptBusy, inFrozen: KeptFrozen, inUndo: KeptUndo,
		inUntagged: KeptUntagged, isYoung: KeptYoung, living: "",
	}[r]
}
