package rpc

// Call IDs that mean something else than a call.
const (
	callSASL    = -33
	callContext = -3
)

// engine is the protocol buffer engine's number.
const engine = 2

type requestHeader struct {
	Engine   int32  `pb:"1,required"`
	Op       int32  `pb:"2,required"` // 0: the whole request
	CallID   int32  `pb:"3,zigzag,required"`
	ClientID []byte `pb:"4,required"`
	Retry    int32  `pb:"5,zigzag,default=-1"`
}

// Status of a response.
const (
	statusSuccess = 0
	statusError   = 1
	statusFatal   = 2
)

type responseHeader struct {
	CallID   uint32 `pb:"1,required"` // an int32, written as if it had no sign
	Status   int32  `pb:"2,required"`
	Version  uint32 `pb:"3"`
	Class    string `pb:"4"`
	Message  string `pb:"5"`
	Detail   Detail `pb:"6"`
	ClientID []byte `pb:"7"`
	Retry    int32  `pb:"8,zigzag,default=-1"`
}

type callHeader struct {
	Method   string `pb:"1,required"`
	Protocol string `pb:"2,required"`
	Version  uint64 `pb:"3,required"`
}

type connectionContext struct {
	User     *userInfo `pb:"2"`
	Protocol string    `pb:"3"`
}

type userInfo struct {
	Effective string `pb:"1"`
	Real      string `pb:"2"`
}

// States of a SASL exchange.
const (
	saslSuccess = iota
	saslNegotiate
	saslInitiate
	saslChallenge
	saslResponse
	saslWrap
)

type saslMessage struct {
	State int32      `pb:"2,required"`
	Token []byte     `pb:"3"`
	Auths []saslAuth `pb:"4"`
}

type saslAuth struct {
	Method    string `pb:"1,required"` // TOKEN, KERBEROS, SIMPLE
	Mechanism string `pb:"2,required"`
	Protocol  string `pb:"3,required"` // a server compares what comes back with what it offered, field by field
	ServerID  string `pb:"4,required"`
	Challenge []byte `pb:"5"`
}
