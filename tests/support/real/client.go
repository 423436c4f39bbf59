// Posts up to 3 kB and gets as much, by golang.org/x/net/http2, until standard input ends: `client ADDRESS FIRST`.
//
// It sends again what a GOAWAY has refused, as Go's clients do. What it says, `programs.rs` explains; what is answered, `routes.rs`.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
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

func call(client *http.Client, address string, number int64) error {
	up, down := int(number/100*37%3000), int(number/100*53%3000)
	url := fmt.Sprintf("http://%s/real/exchange/%d/%d", address, number, down)
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

func main() {
	address := os.Args[1]
	first, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		panic(err)
	}
	next.Store(first)
	var all sync.WaitGroup
	for i := 0; i < clients; i++ {
		client := &http.Client{Transport: &http2.Transport{AllowHTTP: true, DialTLS: dial}}
		for j := 0; j < lanes; j++ {
			all.Add(1)
			go func() {
				defer all.Done()
				for !stopped.Load() {
					number := 100 * next.Add(1)
					if err := call(client, address, number); err != nil {
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
