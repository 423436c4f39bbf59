// Posts up to 3 kB and gets as much, by net/http or by golang.org/x/net/http2, until standard input ends:
// `client net/http|x/net ADDRESS FIRST`.
//
// net/http speaks HTTP/2 over TLS alone, so this program takes TLS off what it sends to itself, byte by byte.
// It sends again what a GOAWAY has refused, as Go's clients do. What it says, `programs.rs` explains; what is answered, `routes.rs`.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

const (
	clients = 2
	lanes   = 3
)

var (
	speaking sync.Mutex
	stopped  atomic.Bool
	next     atomic.Int64
)

func say(format string, words ...any) {
	speaking.Lock()
	defer speaking.Unlock()
	fmt.Printf(format+"\n", words...)
}

func message(number int64, length int) []byte {
	begin := int(number % 251)
	bytes := binary.BigEndian.AppendUint64(make([]byte, 0, length+8), uint64(number))
	for i := 8; i < length; i++ {
		bytes = append(bytes, byte((begin+i-8)%251))
	}
	return bytes[:length]
}

func call(client *http.Client, url string, number int64) error {
	up, down := int(number/100*37%3000), int(number/100*53%3000)
	url = fmt.Sprintf("%s/real/exchange/%d/%d", url, number, down)
	response, err := client.Post(url, "application/octet-stream", bytes.NewReader(message(number, up)))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != 200 || !bytes.Equal(body, message(number+1, down)) {
		return fmt.Errorf("another answer: %s, %d bytes", response.Status, len(body))
	}
	return nil
}

func dial(network, address string, _ *tls.Config) (net.Conn, error) {
	connection, err := net.Dial(network, address)
	if err == nil {
		say("opened")
	}
	return connection, err
}

// A listener with a certificate of its own, by TLS.
func listenTLS() net.Listener {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	check(err)
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
		NextProtos:   []string{"h2"},
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	check(err)
	return listener
}

// Passes bytes on in both directions. A side that has ended may still be written to: a server that says GOAWAY reads on.
func relay(near, far net.Conn) {
	var both sync.WaitGroup
	both.Add(2)
	pass := func(from, to net.Conn) {
		defer both.Done()
		io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}
	go pass(near, far)
	go pass(far, near)
	both.Wait()
	near.Close()
	far.Close()
}

// Takes TLS off what comes to a listener: where that is.
func takeOffTLS(address string) string {
	listener := listenTLS()
	go func() {
		for {
			near, err := listener.Accept()
			check(err)
			far, err := dial("tcp", address, nil)
			check(err)
			go relay(near, far)
		}
	}()
	return listener.Addr().String()
}

func transport(kind string) http.RoundTripper {
	if kind == "x/net" {
		return &http2.Transport{AllowHTTP: true, DialTLS: dial}
	}
	return &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	kind, url := os.Args[1], "http://"+os.Args[2]
	if kind != "x/net" {
		url = "https://" + takeOffTLS(os.Args[2])
	}
	first, err := strconv.ParseInt(os.Args[3], 10, 64)
	check(err)
	next.Store(first)
	var all sync.WaitGroup
	for i := 0; i < clients; i++ {
		client := &http.Client{Transport: transport(kind)}
		for j := 0; j < lanes; j++ {
			all.Add(1)
			go func() {
				defer all.Done()
				for !stopped.Load() {
					number := 100 * next.Add(1)
					if err := call(client, url, number); err != nil {
						say("lost %d: %v", number, err)
					} else {
						say("answered 1")
					}
				}
			}()
		}
	}
	io.Copy(io.Discard, os.Stdin)
	stopped.Store(true)
	all.Wait()
}
