package gc

import "context"

// Plan is what is to go, and why the rest stays.
type Plan struct{ report Report }

// MakePlan decides what of src may go.
func MakePlan(ctx context.Context, src Source, o Options) (*Plan, error) {
	return &Plan{}, ctx.Err()
}

// Report tells what executing p would do.
func (p *Plan) Report() Report { return p.report }

// Execute removes what is planned.
func (p *Plan) Execute(ctx context.Context, s Sweeper) (Report, error) {
	return p.report, ctx.Err()
}
