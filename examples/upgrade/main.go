// Upgrade is an HTTP server that replaces itself by its new version, and neither
// refuses a connection nor breaks off a request. Try it with
//
//	go build -o server ./examples/upgrade && ./server &
//	curl http://127.0.0.1:8080        # says which process answers
//	go build -o server ./examples/upgrade
//	pidfile signal HUP server.pid     # or: kill -HUP $(cat server.pid)
//	curl http://127.0.0.1:8080        # another one
//	pidfile stop server.pid
//
// On HUP it starts the program that is now in its file, and hands it the PID file
// and the listening socket. The new process serves as soon as it has both; the
// old one then answers what it has accepted, and ends. If the new one fails
// before, the old one goes on as if nothing had happened.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile"
)

func main() {
	log.SetPrefix(fmt.Sprintf("server %d: ", os.Getpid()))
	log.SetFlags(0)
	path := flag.String("pidfile", "server.pid", "the PID file")
	addr := flag.String("addr", "127.0.0.1:8080", "the address to listen on, for the first start")
	flag.Parse()
	if err := serve(*path, *addr); err != nil {
		log.Fatal(err)
	}
}

func serve(path, addr string) error {
	signals := make(chan os.Signal, 1) // before anybody can know our PID
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)

	listener, err := inheritedListener()
	if err != nil {
		return err
	}
	f, err := pidfile.Adopt(path)
	if errors.Is(err, pidfile.ErrNotInherited) {
		f, err = pidfile.Acquire(path)
	}
	if err != nil {
		return err
	}
	if listener == nil {
		if listener, err = net.Listen("tcp", addr); err != nil {
			return errors.Join(err, f.Release())
		}
	}
	drain := start(listener)
	log.Printf("serves http://%s", listener.Addr())

	for s := range signals {
		if s != syscall.SIGHUP {
			break
		}
		err := upgrade(f, listener)
		if err == nil {
			break
		}
		log.Printf("upgrade: %v", err)
	}
	// The file goes, but after an upgrade it is the new process's, and stays.
	// Either way it is not kept until the last request is answered.
	err = f.Release()
	drain()
	return err
}

// start serves what comes to listener until drain is called, which returns when
// the last request is answered.
func start(listener net.Listener) (drain func()) {
	var open sync.WaitGroup // connections
	server := &http.Server{
		Handler:           http.HandlerFunc(answer),
		ReadHeaderTimeout: 10 * time.Second, // who says nothing does not keep us
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Done()
			}
		},
	}
	accepting := make(chan error, 1)
	go func() { accepting <- server.Serve(listener) }()
	return func() {
		// Not Shutdown: it hangs up on those whose request it has not read yet.
		listener.Close()
		<-accepting
		server.SetKeepAlivesEnabled(false)
		open.Wait()
	}
}

func answer(w http.ResponseWriter, _ *http.Request) {
	time.Sleep(5 * time.Millisecond) // there is work to do
	fmt.Fprintf(w, "%d\n", os.Getpid())
}

// upgrade starts the new version and returns nil when that has taken over.
func upgrade(f *pidfile.File, listener net.Listener) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer socket.Close()
	next := exec.Command(self, os.Args[1:]...)
	next.Stdout, next.Stderr = os.Stdout, os.Stderr
	next.ExtraFiles = []*os.File{socket} // descriptor 3
	next.Env = append(os.Environ(), socketEnv+"=3")
	if err := f.HandOff(next); err != nil {
		return err
	}
	if err := next.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- next.Wait() }()
	for {
		err, over := error(nil), false
		select {
		case <-f.Lost():
		case err, over = <-ended:
		}
		restored := f.Restore() // a file that was merely removed
		switch {
		case errors.Is(restored, pidfile.ErrHandedOff):
			return nil // it has the file, or had it and has been told to end
		case over:
			return fmt.Errorf("the new process has ended: %v", err)
		case restored != nil:
			return restored
		}
	}
}

// socketEnv tells the new version which descriptor is the socket.
const socketEnv = "UPGRADE_SOCKET"

// inheritedListener returns the socket of the old version, nil if there is none.
func inheritedListener() (net.Listener, error) {
	if os.Getenv(socketEnv) != "3" {
		return nil, nil
	}
	os.Unsetenv(socketEnv) // it is not our children's
	socket := os.NewFile(3, "socket")
	defer socket.Close() // the listener has a copy
	return net.FileListener(socket)
}
