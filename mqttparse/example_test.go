package mqttparse_test

import (
	"errors"
	"fmt"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A proxy reads until the packet is complete, decides by the client, and forwards the bytes as they came.
func Example() {
	fromClient := mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{ClientID: "meter-17", CleanStart: true, KeepAlive: 60})
	fromClient = append(fromClient, "\x82\x06\x00\x01\x00\x01t\x00"...) // SUBSCRIBE follows at once

	const maxConnect = 64 << 10
	buf := make([]byte, 0, 512)
	for _, b := range fromClient { // a slow network
		buf = append(buf, b)
		c, err := mqttparse.ParseConnect(buf)
		if errors.Is(err, mqttparse.ErrNeedMore) {
			if c.Len > maxConnect {
				fmt.Println("too large")
				return
			}
			continue
		}
		if syntax, ok := errors.AsType[*mqttparse.SyntaxError](err); ok {
			fmt.Println("refused:", syntax.Kind)
			return
		}
		fmt.Printf("%q goes to a broker after %d bytes\n", c.ClientID, len(buf))
		break
	}

	var up, down mqttparse.Tracker
	up.Feed(fromClient, nil)
	down.Feed([]byte("\x20\x02\x00\x00"), nil) // CONNACK
	code, ok := down.Connack()
	fmt.Println("accepted:", ok && code == 0, "open:", mqttparse.Open(&up, &down))
	down.Feed([]byte("\x90\x03\x00\x01\x00"), nil) // SUBACK
	fmt.Println("quiet:", up.AtBoundary() && down.AtBoundary() && mqttparse.Open(&up, &down) == 0)
	// Output:
	// "meter-17" goes to a broker after 22 bytes
	// accepted: true open: 1
	// quiet: true
}

func ExampleParseConnect() {
	for _, in := range []string{
		"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc",
		"\x10\x0f\x00\x04MQTT",
		"\x10\xff\xff\xff\x7f",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"GET / HTTP/1.1\r\n",
	} {
		c, err := mqttparse.ParseConnect([]byte(in))
		var syntax *mqttparse.SyntaxError
		switch {
		case err == nil:
			fmt.Printf("version %d, client %q\n", c.Version, c.ClientID)
		case errors.As(err, &syntax):
			fmt.Println(syntax.Kind)
		default:
			fmt.Println("more, up to", c.Len)
		}
	}
	// Output:
	// version 4, client "abc"
	// more, up to 17
	// more, up to 268435460
	// tls
	// http
}

func ExampleConnect_UserProperties() {
	c, _ := mqttparse.ParseConnect(mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{
		Version: 5, ClientID: "worker-3", UserProperties: [][2]string{{"region", "eu"}, {"lb-group", "ingest"}},
	}))
	for name, value := range c.UserProperties() {
		if string(name) == "lb-group" {
			fmt.Printf("%s\n", value)
		}
	}
	// Output: ingest
}

func ExampleConnect_StrictError() {
	// Reserved connect flag, and a client id with a line feed.
	c, err := mqttparse.ParseConnect([]byte("\x10\x0f\x00\x04MQTT\x04\x03\x00\x3c\x00\x03a\nb"))
	fmt.Println(err, c.Nonconforming)
	fmt.Println(c.StrictError())
	// Output:
	// <nil> reserved-connect-flag,id-control-chars
	// mqttparse: reserved connect flag is set at byte 0 [MQTT-3.1.2-3]
}

func ExampleTracker() {
	var fromBroker mqttparse.Tracker
	var packets mqttparse.Counts
	for _, chunk := range []string{"\x20\x03\x00", "\x00\x00", "\x30\x80\x01", "the first bytes of 128"} {
		fromBroker.Feed([]byte(chunk), &packets)
		code, ok := fromBroker.Connack()
		fmt.Println(fromBroker.AtBoundary(), fromBroker.PacketSize(), code, ok)
	}
	fmt.Println(packets[mqttparse.TypePublish], mqttparse.TypePublish)
	// Output:
	// false 5 0 false
	// true 0 0 true
	// false 131 0 true
	// false 131 0 true
	// 1 publish
}

func ExampleAppendConnack() {
	fmt.Printf("% x\n", mqttparse.AppendConnack(nil, 4, mqttparse.ServerBusy))
	fmt.Printf("% x\n", mqttparse.AppendConnack(nil, 5, mqttparse.ServerBusy))
	// Output:
	// 20 02 00 03
	// 20 03 00 89 00
}

func ExampleAppendDisconnect() {
	fmt.Printf("%q\n", mqttparse.AppendDisconnect(nil, 0x8B, "moving", 0))
	fmt.Printf("%q\n", mqttparse.AppendDisconnect(nil, 0x8B, "moving", 8)) // does not fit the client
	// Output:
	// "\xe0\v\x8b\t\x1f\x00\x06moving"
	// ""
}
