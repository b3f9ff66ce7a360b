package layout_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
)

func ExampleCreate() {
	temp, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(temp)
	images, err := layout.Create(filepath.Join(temp, "images"))
	if err != nil {
		fmt.Println(err)
		return
	}
	put := oci.Put{Raw: []byte(`{"schemaVersion":2,"manifests":[]}`), Tags: []string{"v1"}}
	if _, err := images.PutManifest(context.Background(), "team/app", put); err != nil {
		fmt.Println(err)
		return
	}
	again, err := layout.Open(filepath.Join(temp, "images"))
	if err != nil {
		fmt.Println(err)
		return
	}
	found, err := again.Resolve(context.Background(), "team/app", "v1")
	fmt.Println(found.MediaType, err)
	// Output: application/vnd.oci.image.index.v1+json <nil>
}

func ExampleWriteArchive() {
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	index := oci.Manifest{Raw: raw, Descriptor: oci.Descriptor{
		MediaType: oci.MediaTypeIndex, Size: int64(len(raw)),
		Digest: "sha256:bc5857ac9458293d5111ab85c952172cd7f56bceb4e3014ddc4cafac8927b313",
	}}
	var tar bytes.Buffer
	err := layout.WriteArchive(context.Background(), &tar, layout.Content{
		Name:      layout.Name{Host: "registry.example", Repo: "team/app"},
		Tags:      []layout.Tag{{Tag: "v1", Digest: index.Descriptor.Digest}},
		Manifests: []oci.Manifest{index},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	archive, err := layout.SpoolArchive(&tar)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer archive.Close()
	images, err := archive.Images()
	fmt.Println(images[0].Name, err)
	// Output: registry.example/team/app:v1 <nil>
}
