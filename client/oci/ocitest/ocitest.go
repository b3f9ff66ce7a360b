// Package ocitest tests registries. [Run] is what every [oci.Registry] must
// pass, sentence by sentence of the interface; [NewRegistry] is the one that is
// plain enough to be believed, and [History] compares others with it, step by
// step. [Content] states what is in a registry as Go maps with names instead of
// digests; [Faulty] and [Funcs] make single calls fail.
package ocitest
