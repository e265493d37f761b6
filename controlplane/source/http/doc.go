// Package http is the source that polls an endpoint for a routing document
// (package routing has its schema).
//
// The format is what the Content-Type says, else the extension of the path, else
// JSON. An ETag or a Last-Modified is sent back, so that an unchanged document
// costs a 304. Credentials in the endpoint's URL are used as HTTP basic
// authentication; they and the query stand in no log line and no error.
//
// Whatever the endpoint does – away, slow, 5xx, a login page, half a document –
// the last good document stays in force, and the snapshot and the log say so.
package http
