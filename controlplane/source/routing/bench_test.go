package routing

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"dill/controlplane/source"
)

// large is a document of 2,000 services × 10 backends, of which one has a port
// of its own.
func large(f Format, port int) []byte {
	var b bytes.Buffer
	if f == JSON {
		b.WriteString(`{"services":[`)
	} else {
		b.WriteString("services:\n")
	}
	for i := range 2000 {
		if i > 0 {
			port = 3000
		}
		if f == JSON {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"name":"service-%04d","listener":"local:%d","backends":[`, i, 3000+i)
			for j := range 10 {
				if j > 0 {
					b.WriteByte(',')
				}
				fmt.Fprintf(&b, `"10.0.%d.%d:%d"`, i%250, j, port)
			}
			b.WriteString("]}")
			continue
		}
		fmt.Fprintf(&b, "- name: service-%04d\n  listener: local:%d\n  backends:\n", i, 3000+i)
		for j := range 10 {
			fmt.Fprintf(&b, "  - 10.0.%d.%d:%d\n", i%250, j, port)
		}
	}
	if f == JSON {
		b.WriteString("]}")
	}
	return b.Bytes()
}

// BenchmarkTake reads a large document in which one service changes.
func BenchmarkTake(b *testing.B) {
	for _, bm := range []struct {
		name string
		f    Format
	}{{"json", JSON}, {"yaml", YAML}} {
		docs := [][]byte{large(bm.f, 3000), large(bm.f, 3001)}
		b.Run(bm.name, func(b *testing.B) {
			k := NewKeeper("file", "routing file", slog.New(slog.DiscardHandler))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := k.Take(bm.f, docs[i%2], func(source.Snapshot) {}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
