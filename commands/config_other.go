//go:build !unix

package commands

import "os"

// canWrite asks whether dir is there: nobody serves here.
func canWrite(dir string) error {
	_, err := os.Stat(dir)
	return err
}
