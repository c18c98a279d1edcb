// A client of the server made of pion: go build, then
//
//	pion <ecdsa or rsa> <address of /ws> <send or receive> <name of the stream> <a=setup of the offer>
//
// It speaks and obeys as those of conversation.mjs do; what it receives is printed as {"payload": hex}.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pion/webrtc/v3"
	"github.com/pion/webrtc/v3/pkg/media"
	"golang.org/x/net/websocket"
)

var opus = webrtc.RTPCodecCapability{
	MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
}

var out = json.NewEncoder(os.Stdout)

type words map[string]interface{}

type message struct {
	Type    string
	Code    string
	Message string
	Offer   webrtc.SessionDescription
	Answer  webrtc.SessionDescription
}

func check(err error) {
	if err != nil {
		_ = out.Encode(words{"error": err.Error()})
		os.Exit(1)
	}
}

func key(kind string) crypto.PrivateKey {
	var made crypto.PrivateKey
	var err error
	if kind == "rsa" {
		made, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		made, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	check(err)
	return made
}

// payload is the voice of conversation.mjs.
func payload(number int) []byte {
	bytes := make([]byte, 40)
	for index := range bytes {
		bytes[index] = byte(number)
	}
	bytes[0] = 120
	binary.BigEndian.PutUint16(bytes[1:], uint16(number))
	return bytes
}

// describe sets the description and returns it with all candidates.
func describe(pc *webrtc.PeerConnection, description webrtc.SessionDescription) webrtc.SessionDescription {
	gathered := webrtc.GatheringCompletePromise(pc)
	check(pc.SetLocalDescription(description))
	<-gathered
	return *pc.LocalDescription()
}

func sendOffer(pc *webrtc.PeerConnection, socket *websocket.Conn, setup string, restart bool) {
	offer, err := pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	check(err)
	offer = describe(pc, offer)
	offer.SDP = strings.Replace(offer.SDP, "a=setup:actpass", "a=setup:"+setup, 1)
	check(websocket.JSON.Send(socket, words{"type": "webrtc_offer", "offer": offer}))
}

// talk begins when the connection is there, and never pauses.
func talk(pc *webrtc.PeerConnection, track *webrtc.TrackLocalStaticSample) {
	ticker := time.NewTicker(20 * time.Millisecond)
	for pc.ConnectionState() != webrtc.PeerConnectionStateConnected {
		<-ticker.C
	}
	for number := 0; ; number++ {
		check(track.WriteSample(media.Sample{Data: payload(number), Duration: 20 * time.Millisecond}))
		<-ticker.C
	}
}

func hear(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		_ = out.Encode(words{"payload": hex.EncodeToString(packet.Payload)})
	}
}

func main() {
	address, role, stream, setup := os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	certificate, err := webrtc.GenerateCertificate(key(os.Args[1]))
	check(err)
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{*certificate}})
	check(err)
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) { _ = out.Encode(words{"state": state.String()}) })
	pc.OnTrack(hear)
	socket, err := websocket.Dial(address, "", strings.Replace(address, "ws:", "http:", 1))
	check(err)
	if role == "send" {
		track, err := webrtc.NewTrackLocalStaticSample(opus, "voice", "voice")
		check(err)
		_, err = pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		check(err)
		go talk(pc, track)
		check(websocket.JSON.Send(socket, words{"type": "start_sending", "name": stream}))
	} else {
		check(websocket.JSON.Send(socket, words{"type": "start_receiving", "stream_id": stream}))
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR2)
	go func() {
		for number := range signals {
			sendOffer(pc, socket, setup, number == syscall.SIGUSR2)
		}
	}()
	converse(pc, socket, setup)
}

// converse answers the server until the socket closes.
func converse(pc *webrtc.PeerConnection, socket *websocket.Conn, setup string) {
	for {
		var got message
		err := websocket.JSON.Receive(socket, &got)
		if err == io.EOF {
			return
		}
		check(err)
		switch got.Type {
		case "sender_ready":
			sendOffer(pc, socket, setup, false)
		case "webrtc_answer":
			check(pc.SetRemoteDescription(got.Answer))
			_ = out.Encode(words{"answers": 1})
		case "webrtc_offer":
			check(pc.SetRemoteDescription(got.Offer))
			answer, err := pc.CreateAnswer(nil)
			check(err)
			check(websocket.JSON.Send(socket, words{"type": "webrtc_answer", "answer": describe(pc, answer)}))
		case "error":
			_ = out.Encode(words{"error": got.Code + ": " + got.Message})
		}
	}
}
