package routing

import "bytes"

// walk goes through a valid JSON document without decoding it.
type walk struct {
	data []byte
	at   int // in data, before a value or what separates it from the last one
	line int // of at, from 1
}

// more skips to the next value of the object or list that was entered; it
// reports false at its end.
func (w *walk) more() bool {
	for ; w.at < len(w.data); w.at++ {
		switch w.data[w.at] {
		case '\n':
			w.line++
		case ' ', '\t', '\r', ',', ':':
		default:
			return w.data[w.at] != '}' && w.data[w.at] != ']'
		}
	}
	return false
}

// enter goes into the next value if it is an object or a list, as bracket says.
func (w *walk) enter(bracket byte) bool {
	if !w.more() || w.data[w.at] != bracket {
		return false
	}
	w.at++
	return true
}

// leave goes behind the bracket that more has come to.
func (w *walk) leave() { w.at++ }

// value returns the value that more has come to, and goes behind it.
func (w *walk) value() []byte {
	depth, from := 0, w.at
	for ; w.at < len(w.data); w.at++ {
		switch w.data[w.at] {
		case '"':
			for w.at++; w.data[w.at] != '"'; w.at++ {
				if w.data[w.at] == '\\' {
					w.at++
				}
			}
			continue
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ':':
		case '\n':
			w.line++
			continue
		default:
			continue
		}
		if depth < 0 || depth == 0 && (w.data[w.at] == ',' || w.data[w.at] == ':') {
			break
		}
	}
	return bytes.TrimRight(w.data[from:w.at], " \t\r\n")
}
