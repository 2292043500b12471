package yarn

import (
	"context"
	"errors"
	"strings"

	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// What can go wrong with a call, for errors.Is. The typed error is *Error.
var (
	ErrUnreachable   = errors.New("the service can't be reached")                     // none of its addresses answers, or all are standby
	ErrTooSlow       = errors.New("no answer in time")                                // our own limit: the service may have acted
	ErrCredentials   = errors.New("the login failed")                                 // no, wrong or old token or ticket
	ErrNotYours      = errors.New("not allowed for this user")                        // an access control list says so
	ErrRefused       = errors.New("refused by YARN")                                  // the request can't be granted as it is
	ErrNotFound      = errors.New("not known to YARN")                                // wrong, or ended and forgotten
	ErrNotRegistered = errors.New("the ApplicationMaster is not registered")          // the ResourceManager was restarted
	ErrOver          = errors.New("the application's attempt is over")                // ended, killed, or declared dead and replaced
	ErrProtocol      = errors.New("this is not the Hadoop service that it should be") // the wrong port, or a version that this package does not know
)

// Error is a call that failed: what was asked, what Hadoop said, and what to do about it.
type Error struct {
	Op    string // "submit", "kill", ...
	Class string // Hadoop's exception without its package; "" if the failure is not Hadoop's word
	Text  string // Hadoop's own words, or ours
	Do    string // "" if nothing better is known than the text
	Kind  error  // one of the Err values
	Err   error  // what it was made of, nil if there is nothing more
}

func (e *Error) Error() string {
	s := "yarn: " + e.Op + ": "
	if e.Text != "" {
		s += e.Text
	} else {
		s += e.Kind.Error()
	}
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

// classes are Hadoop's exceptions, what they mean and what helps.
var classes = map[string]struct {
	kind error
	do   string
}{
	"ApplicationNotFoundException":             {ErrNotFound, "`yarn application -list -appStates ALL` shows what is known"},
	"ApplicationAttemptNotFoundException":      {ErrOver, ""},
	"ContainerNotFoundException":               {ErrNotFound, ""},
	"ApplicationMasterNotRegisteredException":  {ErrNotRegistered, "register again"},
	"InvalidApplicationMasterRequestException": {ErrRefused, "is another process the master of the same attempt?"},
	"InvalidResourceRequestException":          {ErrRefused, "ask for no more than the cluster's largest container (yarn.scheduler.maximum-allocation-*)"},
	"InvalidResourceBlacklistRequestException": {ErrRefused, ""},
	"InvalidLabelResourceRequestException":     {ErrRefused, "`yarn cluster -lnl` lists the node labels; the queue must be allowed to use it"},
	"InvalidContainerReleaseException":         {ErrRefused, "only own containers can be released"},
	"InvalidContainerException":                {ErrRefused, ""},
	"InvalidAuxServiceException":               {ErrRefused, "the NodeManager has no such service"},
	"NMNotYetReadyException":                   {ErrUnreachable, "the NodeManager starts: try again"},
	"AccessControlException":                   {ErrNotYours, "the queue's or the application's access control list decides"},
	"AuthorizationException":                   {ErrNotYours, "the service's or a proxy user's access list decides"},
	"InvalidToken":                             {ErrCredentials, "the token has expired, was cancelled, or is of another cluster: get a new one"},
	"YarnException":                            {ErrRefused, ""},
	"IllegalArgumentException":                 {ErrRefused, ""},
	"RpcNoSuchMethodException":                 {ErrProtocol, "this Hadoop is older or newer than 3.x"},
	"RpcNoSuchProtocolException":               {ErrProtocol, "is it the right port? 8032 is for clients, 8030 for ApplicationMasters"},
	"StandbyException":                         {ErrUnreachable, "all that are configured are standby: give the other ones too"},
	"RetriableException":                       {ErrUnreachable, "try again"},
}

// ErrorOf makes an *Error of what a call of one of this room's clients returned; nil stays nil, and the
// end of a context the context's error.
func ErrorOf(op string, err error) error {
	var have *Error
	if err == nil || errors.As(err, &have) {
		return err
	}
	e := &Error{Op: op, Text: err.Error(), Kind: ErrRefused, Err: err}
	var r *rpc.RemoteError
	switch {
	case errors.As(err, &r):
		e.Class, e.Text = r.Name(), r.Error()
		if known, ok := classes[e.Class]; ok {
			e.Kind, e.Do = known.kind, known.do
			e.Text = r.Message
		}
		if (r.Detail == rpc.DetailUnauthorized && e.Kind != ErrNotYours || errors.Is(err, rpc.ErrLogin)) && e.Kind != ErrUnreachable { // a standby lets nobody in
			e.Kind, e.Text, e.Do = ErrCredentials, err.Error(), ""
			if strings.Contains(r.Message, "SIMPLE authentication is not enabled") {
				e.Do = "this cluster wants Kerberos or a token: kinit, or give a token file in HADOOP_TOKEN_FILE_LOCATION"
			}
		}
	case errors.Is(err, rpc.ErrNotHadoop):
		e.Kind = ErrProtocol
	case errors.Is(err, rpc.ErrLogin), errors.Is(err, sasl.ErrProtection):
		e.Kind = ErrCredentials
	case errors.Is(err, rpc.ErrSilent) && !errors.Is(err, rpc.ErrUnreachable):
		e.Kind, e.Do = ErrTooSlow, "the service is busy or stopped; look whether it acted all the same"
	case errors.Is(err, rpc.ErrUnreachable):
		e.Kind, e.Do = ErrUnreachable, "is the service up, and the address right?"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, rpc.ErrClosed):
		return err
	}
	return e
}
