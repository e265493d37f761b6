package dptest

import (
	"bytes"
	"io"
	"testing"
)

func TestSocks(t *testing.T) {
	backend := Serve(t, Say("hello"))
	port := backend.Addr().Port()
	ip := backend.Addr().Addr().As4()
	request := append([]byte{5, 1, 0, 1}, append(ip[:], byte(port>>8), byte(port))...)
	tests := []struct {
		name  string
		socks *Socks
		send  [][]byte // one answer is awaited after each
		want  [][]byte
	}{
		{"open", &Socks{},
			[][]byte{{5, 1, 0}, request},
			[][]byte{{5, 0}, append([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "hello"...)}},
		{"password", &Socks{User: "u", Password: "pw", Dribble: true, Hasty: true},
			[][]byte{{5, 2, 0, 2}, {1, 1, 'u', 2, 'p', 'w'}, request},
			[][]byte{{5, 2}, {1, 0}, append([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "hello"...)}},
		{"wrong password", &Socks{User: "u", Password: "pw"},
			[][]byte{{5, 1, 2}, {1, 1, 'u', 1, 'p'}},
			[][]byte{{5, 2}, {1, 1}}},
		{"refusal", &Socks{Reply: 5},
			[][]byte{{5, 1, 0}, request},
			[][]byte{{5, 0}, {5, 5, 0, 1, 0, 0, 0, 0, 0, 0}}},
		{"no method", &Socks{User: "u"},
			[][]byte{{5, 1, 0}},
			[][]byte{{5, 0xff}}},
		{"garbage", &Socks{Garbage: []byte("HTTP/1.1 400")},
			[][]byte{{5, 1, 0}},
			[][]byte{[]byte("HTTP/1.1 400")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := Dial(t, test.socks.Start(t).Backend.Addr())
			for i, b := range test.send {
				if _, err := client.Conn().Write(b); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(test.want[i]))
				if _, err := io.ReadFull(client.Conn(), got); err != nil || !bytes.Equal(got, test.want[i]) {
					t.Fatalf("answer %d: %q, %v; want %q", i, got, err, test.want[i])
				}
			}
		})
	}
}
