package serve_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve"
)

// A registry is served until its context ends.
func ExampleServer() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	listeners, err := serve.Listen(ctx, []string{"127.0.0.1:0"}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	reg := serve.WithoutDeletes(ocitest.NewRegistry())
	srv := &serve.Server{Handler: serve.NewHandler(reg, serve.Options{})}
	done := make(chan error)
	go func() { done <- srv.Serve(ctx, listeners) }()

	res, err := http.Get("http://" + listeners[0].Addr().String() + "/v2/_catalog")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	fmt.Print(res.Status, " ", string(body))
	stop()
	fmt.Println(<-done)
	// Output:
	// 200 OK {"repositories":[]}
	// <nil>
}
