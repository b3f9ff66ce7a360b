package serve

import (
	"context"
	"net/http"
)

// addRobots adds what can be asked about robots.
func (c *control) addRobots(mux *http.ServeMux) {
	if c.keeper.robots == nil {
		return
	}
	mux.HandleFunc("POST /tokens/create", controlRun(c.clock.after, c.createRobot))
	mux.HandleFunc("POST /tokens/list", controlRun(c.clock.after, c.listRobots))
	mux.HandleFunc("POST /tokens/revoke", controlRun(c.clock.after, c.revokeRobots))
}

func (c *control) createRobot(ctx context.Context, q RobotRequest, _ func(struct{})) (RobotMade, error) {
	return c.keeper.robots.Create(ctx, q)
}

func (c *control) listRobots(ctx context.Context, _ struct{}, _ func(struct{})) (RobotList, error) {
	return c.keeper.robots.List(ctx)
}

func (c *control) revokeRobots(ctx context.Context, q RobotNames, _ func(struct{})) (RobotNames, error) {
	return c.keeper.robots.Revoke(ctx, q)
}

// dialRobots asks the server.
func dialRobots(ctx context.Context, dir string, held error) (Robots, error) {
	up, err := dialControl(ctx, dir, held)
	if err != nil {
		return nil, err
	}
	if r, ok := up.(*distant); ok {
		return distantRobots{r}, nil
	}
	return nil, held
}

type distantRobots struct{ *distant }

// Create asks the server.
func (r distantRobots) Create(ctx context.Context, q RobotRequest) (RobotMade, error) {
	return askControl[struct{}, RobotMade](ctx, r.distant, http.MethodPost, "/tokens/create", q, nil)
}

// List asks the server.
func (r distantRobots) List(ctx context.Context) (RobotList, error) {
	return askControl[struct{}, RobotList](ctx, r.distant, http.MethodPost, "/tokens/list", struct{}{}, nil)
}

// Revoke asks the server.
func (r distantRobots) Revoke(ctx context.Context, q RobotNames) (RobotNames, error) {
	return askControl[struct{}, RobotNames](ctx, r.distant, http.MethodPost, "/tokens/revoke", q, nil)
}
