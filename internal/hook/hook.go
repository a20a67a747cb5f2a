// Package hook lets the command set what the API of package pidfile does not offer.
package hook

import "github.com/go-pidfile/pidfile/internal/lock"

// SetOptions has the Acquire and AcquireContext of config, a *pidfile.Config, call set
// with their options. Package pidfile assigns it when it is initialised, and nothing
// does later.
var SetOptions func(config any, set func(*lock.Options))
