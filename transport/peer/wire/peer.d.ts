import * as $protobuf from "protobufjs";
import Long = require("long");

/** Namespace kvferry. */
export namespace kvferry {

    /** Namespace peer. */
    namespace peer {

        /** Namespace v1. */
        namespace v1 {

            /**
             * Properties of an Envelope.
             * @deprecated Use kvferry.peer.v1.Envelope.$Properties instead.
             */
            interface IEnvelope extends kvferry.peer.v1.Envelope.$Properties {
            }

            /** Represents an Envelope. */
            class Envelope {

                /**
                 * Constructs a new Envelope.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Envelope.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Envelope hello. */
                hello?: (kvferry.peer.v1.Hello.$Properties|null);

                /** Envelope refuse. */
                refuse?: (kvferry.peer.v1.Refuse.$Properties|null);

                /** Envelope models. */
                models?: (kvferry.peer.v1.Models.$Properties|null);

                /** Envelope lookup. */
                lookup?: (kvferry.peer.v1.Lookup.$Properties|null);

                /** Envelope lookupReply. */
                lookupReply?: (kvferry.peer.v1.LookupReply.$Properties|null);

                /** Envelope fetch. */
                fetch?: (kvferry.peer.v1.Fetch.$Properties|null);

                /** Envelope offer. */
                offer?: (kvferry.peer.v1.Offer.$Properties|null);

                /** Envelope accept. */
                accept?: (kvferry.peer.v1.Accept.$Properties|null);

                /** Envelope done. */
                done?: (kvferry.peer.v1.Done.$Properties|null);

                /** Envelope cancel. */
                cancel?: (kvferry.peer.v1.Cancel.$Properties|null);

                /** Envelope ping. */
                ping?: (kvferry.peer.v1.Ping.$Properties|null);

                /** Envelope pong. */
                pong?: (kvferry.peer.v1.Pong.$Properties|null);

                /** Envelope bye. */
                bye?: (kvferry.peer.v1.Bye.$Properties|null);

                /** Envelope resume. */
                resume?: (kvferry.peer.v1.Resume.$Properties|null);

                /** Envelope discard. */
                discard?: (kvferry.peer.v1.Discard.$Properties|null);

                /** Envelope lanes. */
                lanes?: (kvferry.peer.v1.Lanes.$Properties|null);

                /** Envelope prewarm. */
                prewarm?: (kvferry.peer.v1.Prewarm.$Properties|null);

                /** Envelope kind. */
                kind?: ("hello"|"refuse"|"models"|"lookup"|"lookupReply"|"fetch"|"offer"|"accept"|"done"|"cancel"|"ping"|"pong"|"bye"|"resume"|"discard"|"lanes"|"prewarm");

                /**
                 * Encodes the specified Envelope message. Does not implicitly {@link kvferry.peer.v1.Envelope.verify|verify} messages.
                 * @param m Envelope message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Envelope.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes an Envelope message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Envelope & kvferry.peer.v1.Envelope.$Shape} Envelope
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Envelope & kvferry.peer.v1.Envelope.$Shape;
            }

            namespace Envelope {

                /** Properties of an Envelope. */
                interface $Properties {

                    /** Envelope hello */
                    hello?: (kvferry.peer.v1.Hello.$Properties|null);

                    /** Envelope refuse */
                    refuse?: (kvferry.peer.v1.Refuse.$Properties|null);

                    /** Envelope models */
                    models?: (kvferry.peer.v1.Models.$Properties|null);

                    /** Envelope lookup */
                    lookup?: (kvferry.peer.v1.Lookup.$Properties|null);

                    /** Envelope lookupReply */
                    lookupReply?: (kvferry.peer.v1.LookupReply.$Properties|null);

                    /** Envelope fetch */
                    fetch?: (kvferry.peer.v1.Fetch.$Properties|null);

                    /** Envelope offer */
                    offer?: (kvferry.peer.v1.Offer.$Properties|null);

                    /** Envelope accept */
                    accept?: (kvferry.peer.v1.Accept.$Properties|null);

                    /** Envelope done */
                    done?: (kvferry.peer.v1.Done.$Properties|null);

                    /** Envelope cancel */
                    cancel?: (kvferry.peer.v1.Cancel.$Properties|null);

                    /** Envelope ping */
                    ping?: (kvferry.peer.v1.Ping.$Properties|null);

                    /** Envelope pong */
                    pong?: (kvferry.peer.v1.Pong.$Properties|null);

                    /** Envelope bye */
                    bye?: (kvferry.peer.v1.Bye.$Properties|null);

                    /** Envelope resume */
                    resume?: (kvferry.peer.v1.Resume.$Properties|null);

                    /** Envelope discard */
                    discard?: (kvferry.peer.v1.Discard.$Properties|null);

                    /** Envelope lanes */
                    lanes?: (kvferry.peer.v1.Lanes.$Properties|null);

                    /** Envelope prewarm */
                    prewarm?: (kvferry.peer.v1.Prewarm.$Properties|null);

                    /** Envelope kind */
                    kind?: ("hello"|"refuse"|"models"|"lookup"|"lookupReply"|"fetch"|"offer"|"accept"|"done"|"cancel"|"ping"|"pong"|"bye"|"resume"|"discard"|"lanes"|"prewarm");

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Narrowed shape of an Envelope. */
                type $Shape = {
                  hello?: kvferry.peer.v1.Hello.$Shape|null;
                  refuse?: kvferry.peer.v1.Refuse.$Shape|null;
                  models?: kvferry.peer.v1.Models.$Shape|null;
                  lookup?: kvferry.peer.v1.Lookup.$Shape|null;
                  lookupReply?: kvferry.peer.v1.LookupReply.$Shape|null;
                  fetch?: kvferry.peer.v1.Fetch.$Shape|null;
                  offer?: kvferry.peer.v1.Offer.$Shape|null;
                  accept?: kvferry.peer.v1.Accept.$Shape|null;
                  done?: kvferry.peer.v1.Done.$Shape|null;
                  cancel?: kvferry.peer.v1.Cancel.$Shape|null;
                  ping?: kvferry.peer.v1.Ping.$Shape|null;
                  pong?: kvferry.peer.v1.Pong.$Shape|null;
                  bye?: kvferry.peer.v1.Bye.$Shape|null;
                  resume?: kvferry.peer.v1.Resume.$Shape|null;
                  discard?: kvferry.peer.v1.Discard.$Shape|null;
                  lanes?: kvferry.peer.v1.Lanes.$Shape|null;
                  prewarm?: kvferry.peer.v1.Prewarm.$Shape|null;
                  $unknowns?: Uint8Array[];
                } & (
                  ({ kind?: undefined; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "hello"; hello: kvferry.peer.v1.Hello.$Shape; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "refuse"; hello?: null; refuse: kvferry.peer.v1.Refuse.$Shape; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "models"; hello?: null; refuse?: null; models: kvferry.peer.v1.Models.$Shape; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "lookup"; hello?: null; refuse?: null; models?: null; lookup: kvferry.peer.v1.Lookup.$Shape; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "lookupReply"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply: kvferry.peer.v1.LookupReply.$Shape; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "fetch"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch: kvferry.peer.v1.Fetch.$Shape; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "offer"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer: kvferry.peer.v1.Offer.$Shape; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "accept"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept: kvferry.peer.v1.Accept.$Shape; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "done"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done: kvferry.peer.v1.Done.$Shape; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "cancel"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel: kvferry.peer.v1.Cancel.$Shape; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "ping"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping: kvferry.peer.v1.Ping.$Shape; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "pong"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong: kvferry.peer.v1.Pong.$Shape; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "bye"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye: kvferry.peer.v1.Bye.$Shape; resume?: null; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "resume"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume: kvferry.peer.v1.Resume.$Shape; discard?: null; lanes?: null; prewarm?: null }|{ kind?: "discard"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard: kvferry.peer.v1.Discard.$Shape; lanes?: null; prewarm?: null }|{ kind?: "lanes"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes: kvferry.peer.v1.Lanes.$Shape; prewarm?: null }|{ kind?: "prewarm"; hello?: null; refuse?: null; models?: null; lookup?: null; lookupReply?: null; fetch?: null; offer?: null; accept?: null; done?: null; cancel?: null; ping?: null; pong?: null; bye?: null; resume?: null; discard?: null; lanes?: null; prewarm: kvferry.peer.v1.Prewarm.$Shape })
                );
            }

            /**
             * Properties of a Hello.
             * @deprecated Use kvferry.peer.v1.Hello.$Properties instead.
             */
            interface IHello extends kvferry.peer.v1.Hello.$Properties {
            }

            /** Represents a Hello. */
            class Hello {

                /**
                 * Constructs a new Hello.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Hello.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Hello version. */
                version: number;

                /** Hello minVersion. */
                minVersion: number;

                /** Hello node. */
                node: string;

                /** Hello name. */
                name: string;

                /** Hello software. */
                software: string;

                /** Hello advertise. */
                advertise: string;

                /** Hello capabilities. */
                capabilities: string[];

                /** Hello chunkBytesMax. */
                chunkBytesMax: number;

                /** Hello lanesMax. */
                lanesMax: number;

                /** Hello laneToken. */
                laneToken: Uint8Array;

                /** Hello secret. */
                secret: string;

                /** Hello models. */
                models: kvferry.peer.v1.Model.$Properties[];

                /** Hello resumeNode. */
                resumeNode: string;

                /** Hello conversation. */
                conversation: number;

                /** Hello tenant. */
                tenant: string;

                /**
                 * Encodes the specified Hello message. Does not implicitly {@link kvferry.peer.v1.Hello.verify|verify} messages.
                 * @param m Hello message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Hello.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Hello message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Hello & kvferry.peer.v1.Hello.$Shape} Hello
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Hello & kvferry.peer.v1.Hello.$Shape;
            }

            namespace Hello {

                /** Properties of a Hello. */
                interface $Properties {

                    /** Hello version */
                    version?: (number|null);

                    /** Hello minVersion */
                    minVersion?: (number|null);

                    /** Hello node */
                    node?: (string|null);

                    /** Hello name */
                    name?: (string|null);

                    /** Hello software */
                    software?: (string|null);

                    /** Hello advertise */
                    advertise?: (string|null);

                    /** Hello capabilities */
                    capabilities?: (string[]|null);

                    /** Hello chunkBytesMax */
                    chunkBytesMax?: (number|null);

                    /** Hello lanesMax */
                    lanesMax?: (number|null);

                    /** Hello laneToken */
                    laneToken?: (Uint8Array|null);

                    /** Hello secret */
                    secret?: (string|null);

                    /** Hello models */
                    models?: (kvferry.peer.v1.Model.$Properties[]|null);

                    /** Hello resumeNode */
                    resumeNode?: (string|null);

                    /** Hello conversation */
                    conversation?: (number|null);

                    /** Hello tenant */
                    tenant?: (string|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Hello. */
                type $Shape = kvferry.peer.v1.Hello.$Properties;
            }

            /**
             * Properties of a Model.
             * @deprecated Use kvferry.peer.v1.Model.$Properties instead.
             */
            interface IModel extends kvferry.peer.v1.Model.$Properties {
            }

            /** Represents a Model. */
            class Model {

                /**
                 * Constructs a new Model.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Model.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Model fingerprint. */
                fingerprint: string;

                /** Model layout. */
                layout: Uint8Array;

                /** Model profiles. */
                profiles: kvferry.peer.v1.Profile.$Properties[];

                /**
                 * Encodes the specified Model message. Does not implicitly {@link kvferry.peer.v1.Model.verify|verify} messages.
                 * @param m Model message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Model.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Model message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Model & kvferry.peer.v1.Model.$Shape} Model
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Model & kvferry.peer.v1.Model.$Shape;
            }

            namespace Model {

                /** Properties of a Model. */
                interface $Properties {

                    /** Model fingerprint */
                    fingerprint?: (string|null);

                    /** Model layout */
                    layout?: (Uint8Array|null);

                    /** Model profiles */
                    profiles?: (kvferry.peer.v1.Profile.$Properties[]|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Model. */
                type $Shape = kvferry.peer.v1.Model.$Properties;
            }

            /**
             * Properties of a Profile.
             * @deprecated Use kvferry.peer.v1.Profile.$Properties instead.
             */
            interface IProfile extends kvferry.peer.v1.Profile.$Properties {
            }

            /** Represents a Profile. */
            class Profile {

                /**
                 * Constructs a new Profile.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Profile.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Profile id. */
                id: string;

                /** Profile decodeBytesPerSecond. */
                decodeBytesPerSecond: number;

                /**
                 * Encodes the specified Profile message. Does not implicitly {@link kvferry.peer.v1.Profile.verify|verify} messages.
                 * @param m Profile message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Profile.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Profile message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Profile & kvferry.peer.v1.Profile.$Shape} Profile
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Profile & kvferry.peer.v1.Profile.$Shape;
            }

            namespace Profile {

                /** Properties of a Profile. */
                interface $Properties {

                    /** Profile id */
                    id?: (string|null);

                    /** Profile decodeBytesPerSecond */
                    decodeBytesPerSecond?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Profile. */
                type $Shape = kvferry.peer.v1.Profile.$Properties;
            }

            /**
             * Properties of a Coding.
             * @deprecated Use kvferry.peer.v1.Coding.$Properties instead.
             */
            interface ICoding extends kvferry.peer.v1.Coding.$Properties {
            }

            /** Represents a Coding. */
            class Coding {

                /**
                 * Constructs a new Coding.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Coding.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Coding profile. */
                profile: string;

                /** Coding position. */
                position: number;

                /**
                 * Encodes the specified Coding message. Does not implicitly {@link kvferry.peer.v1.Coding.verify|verify} messages.
                 * @param m Coding message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Coding.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Coding message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Coding & kvferry.peer.v1.Coding.$Shape} Coding
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Coding & kvferry.peer.v1.Coding.$Shape;
            }

            namespace Coding {

                /** Properties of a Coding. */
                interface $Properties {

                    /** Coding profile */
                    profile?: (string|null);

                    /** Coding position */
                    position?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Coding. */
                type $Shape = kvferry.peer.v1.Coding.$Properties;
            }

            /**
             * Properties of a Models.
             * @deprecated Use kvferry.peer.v1.Models.$Properties instead.
             */
            interface IModels extends kvferry.peer.v1.Models.$Properties {
            }

            /** Represents a Models. */
            class Models {

                /**
                 * Constructs a new Models.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Models.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Models models. */
                models: kvferry.peer.v1.Model.$Properties[];

                /**
                 * Encodes the specified Models message. Does not implicitly {@link kvferry.peer.v1.Models.verify|verify} messages.
                 * @param m Models message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Models.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Models message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Models & kvferry.peer.v1.Models.$Shape} Models
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Models & kvferry.peer.v1.Models.$Shape;
            }

            namespace Models {

                /** Properties of a Models. */
                interface $Properties {

                    /** Models models */
                    models?: (kvferry.peer.v1.Model.$Properties[]|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Models. */
                type $Shape = kvferry.peer.v1.Models.$Properties;
            }

            /**
             * Properties of a Refuse.
             * @deprecated Use kvferry.peer.v1.Refuse.$Properties instead.
             */
            interface IRefuse extends kvferry.peer.v1.Refuse.$Properties {
            }

            /** Represents a Refuse. */
            class Refuse {

                /**
                 * Constructs a new Refuse.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Refuse.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Refuse code. */
                code: number;

                /** Refuse detail. */
                detail: string;

                /** Refuse version. */
                version: number;

                /** Refuse minVersion. */
                minVersion: number;

                /** Refuse re. */
                re: number;

                /**
                 * Encodes the specified Refuse message. Does not implicitly {@link kvferry.peer.v1.Refuse.verify|verify} messages.
                 * @param m Refuse message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Refuse.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Refuse message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Refuse & kvferry.peer.v1.Refuse.$Shape} Refuse
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Refuse & kvferry.peer.v1.Refuse.$Shape;
            }

            namespace Refuse {

                /** Properties of a Refuse. */
                interface $Properties {

                    /** Refuse code */
                    code?: (number|null);

                    /** Refuse detail */
                    detail?: (string|null);

                    /** Refuse version */
                    version?: (number|null);

                    /** Refuse minVersion */
                    minVersion?: (number|null);

                    /** Refuse re */
                    re?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Refuse. */
                type $Shape = kvferry.peer.v1.Refuse.$Properties;
            }

            /**
             * Properties of a Lookup.
             * @deprecated Use kvferry.peer.v1.Lookup.$Properties instead.
             */
            interface ILookup extends kvferry.peer.v1.Lookup.$Properties {
            }

            /** Represents a Lookup. */
            class Lookup {

                /**
                 * Constructs a new Lookup.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Lookup.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Lookup id. */
                id: number;

                /** Lookup fingerprint. */
                fingerprint: string;

                /** Lookup group. */
                group: number;

                /** Lookup keys. */
                keys: Uint8Array;

                /** Lookup tenant. */
                tenant: string;

                /**
                 * Encodes the specified Lookup message. Does not implicitly {@link kvferry.peer.v1.Lookup.verify|verify} messages.
                 * @param m Lookup message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Lookup.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Lookup message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Lookup & kvferry.peer.v1.Lookup.$Shape} Lookup
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Lookup & kvferry.peer.v1.Lookup.$Shape;
            }

            namespace Lookup {

                /** Properties of a Lookup. */
                interface $Properties {

                    /** Lookup id */
                    id?: (number|null);

                    /** Lookup fingerprint */
                    fingerprint?: (string|null);

                    /** Lookup group */
                    group?: (number|null);

                    /** Lookup keys */
                    keys?: (Uint8Array|null);

                    /** Lookup tenant */
                    tenant?: (string|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Lookup. */
                type $Shape = kvferry.peer.v1.Lookup.$Properties;
            }

            /**
             * Properties of a LookupReply.
             * @deprecated Use kvferry.peer.v1.LookupReply.$Properties instead.
             */
            interface ILookupReply extends kvferry.peer.v1.LookupReply.$Properties {
            }

            /** Represents a LookupReply. */
            class LookupReply {

                /**
                 * Constructs a new LookupReply.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.LookupReply.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** LookupReply id. */
                id: number;

                /** LookupReply code. */
                code: number;

                /** LookupReply matched. */
                matched: number;

                /**
                 * Encodes the specified LookupReply message. Does not implicitly {@link kvferry.peer.v1.LookupReply.verify|verify} messages.
                 * @param m LookupReply message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.LookupReply.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a LookupReply message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.LookupReply & kvferry.peer.v1.LookupReply.$Shape} LookupReply
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.LookupReply & kvferry.peer.v1.LookupReply.$Shape;
            }

            namespace LookupReply {

                /** Properties of a LookupReply. */
                interface $Properties {

                    /** LookupReply id */
                    id?: (number|null);

                    /** LookupReply code */
                    code?: (number|null);

                    /** LookupReply matched */
                    matched?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a LookupReply. */
                type $Shape = kvferry.peer.v1.LookupReply.$Properties;
            }

            /**
             * Properties of a GroupTokens.
             * @deprecated Use kvferry.peer.v1.GroupTokens.$Properties instead.
             */
            interface IGroupTokens extends kvferry.peer.v1.GroupTokens.$Properties {
            }

            /** Represents a GroupTokens. */
            class GroupTokens {

                /**
                 * Constructs a new GroupTokens.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.GroupTokens.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** GroupTokens group. */
                group: number;

                /** GroupTokens tokens. */
                tokens: number;

                /**
                 * Encodes the specified GroupTokens message. Does not implicitly {@link kvferry.peer.v1.GroupTokens.verify|verify} messages.
                 * @param m GroupTokens message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.GroupTokens.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a GroupTokens message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.GroupTokens & kvferry.peer.v1.GroupTokens.$Shape} GroupTokens
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.GroupTokens & kvferry.peer.v1.GroupTokens.$Shape;
            }

            namespace GroupTokens {

                /** Properties of a GroupTokens. */
                interface $Properties {

                    /** GroupTokens group */
                    group?: (number|null);

                    /** GroupTokens tokens */
                    tokens?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a GroupTokens. */
                type $Shape = kvferry.peer.v1.GroupTokens.$Properties;
            }

            /**
             * Properties of a Range.
             * @deprecated Use kvferry.peer.v1.Range.$Properties instead.
             */
            interface IRange extends kvferry.peer.v1.Range.$Properties {
            }

            /** Represents a Range. */
            class Range {

                /**
                 * Constructs a new Range.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Range.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Range offset. */
                offset: number;

                /** Range bytes. */
                bytes: number;

                /**
                 * Encodes the specified Range message. Does not implicitly {@link kvferry.peer.v1.Range.verify|verify} messages.
                 * @param m Range message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Range.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Range message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Range & kvferry.peer.v1.Range.$Shape} Range
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Range & kvferry.peer.v1.Range.$Shape;
            }

            namespace Range {

                /** Properties of a Range. */
                interface $Properties {

                    /** Range offset */
                    offset?: (number|null);

                    /** Range bytes */
                    bytes?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Range. */
                type $Shape = kvferry.peer.v1.Range.$Properties;
            }

            /**
             * Properties of a Fetch.
             * @deprecated Use kvferry.peer.v1.Fetch.$Properties instead.
             */
            interface IFetch extends kvferry.peer.v1.Fetch.$Properties {
            }

            /** Represents a Fetch. */
            class Fetch {

                /**
                 * Constructs a new Fetch.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Fetch.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Fetch id. */
                id: number;

                /** Fetch fingerprint. */
                fingerprint: string;

                /** Fetch handle. */
                handle?: (string|null);

                /** Fetch keys. */
                keys?: (kvferry.peer.v1.Keys.$Properties|null);

                /** Fetch ranges. */
                ranges?: (kvferry.peer.v1.Ranges.$Properties|null);

                /** Fetch firstHead. */
                firstHead: number;

                /** Fetch heads. */
                heads: number;

                /** Fetch chunkBytes. */
                chunkBytes: number;

                /** Fetch deadlineMs. */
                deadlineMs: number;

                /** Fetch trace. */
                trace: string;

                /** Fetch priority. */
                priority: number;

                /** Fetch readers. */
                readers: number;

                /** Fetch grant. */
                grant?: (kvferry.peer.v1.Grant.$Properties|null);

                /** Fetch tenant. */
                tenant: string;

                /** Fetch profiles. */
                profiles: string[];

                /** Fetch source. */
                source?: ("handle"|"keys"|"ranges");

                /**
                 * Encodes the specified Fetch message. Does not implicitly {@link kvferry.peer.v1.Fetch.verify|verify} messages.
                 * @param m Fetch message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Fetch.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Fetch message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Fetch & kvferry.peer.v1.Fetch.$Shape} Fetch
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Fetch & kvferry.peer.v1.Fetch.$Shape;
            }

            namespace Fetch {

                /** Properties of a Fetch. */
                interface $Properties {

                    /** Fetch id */
                    id?: (number|null);

                    /** Fetch fingerprint */
                    fingerprint?: (string|null);

                    /** Fetch handle */
                    handle?: (string|null);

                    /** Fetch keys */
                    keys?: (kvferry.peer.v1.Keys.$Properties|null);

                    /** Fetch ranges */
                    ranges?: (kvferry.peer.v1.Ranges.$Properties|null);

                    /** Fetch firstHead */
                    firstHead?: (number|null);

                    /** Fetch heads */
                    heads?: (number|null);

                    /** Fetch chunkBytes */
                    chunkBytes?: (number|null);

                    /** Fetch deadlineMs */
                    deadlineMs?: (number|null);

                    /** Fetch trace */
                    trace?: (string|null);

                    /** Fetch priority */
                    priority?: (number|null);

                    /** Fetch readers */
                    readers?: (number|null);

                    /** Fetch grant */
                    grant?: (kvferry.peer.v1.Grant.$Properties|null);

                    /** Fetch tenant */
                    tenant?: (string|null);

                    /** Fetch profiles */
                    profiles?: (string[]|null);

                    /** Fetch source */
                    source?: ("handle"|"keys"|"ranges");

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Narrowed shape of a Fetch. */
                type $Shape = {
                  id?: number|null;
                  fingerprint?: string|null;
                  handle?: string|null;
                  keys?: kvferry.peer.v1.Keys.$Shape|null;
                  ranges?: kvferry.peer.v1.Ranges.$Shape|null;
                  firstHead?: number|null;
                  heads?: number|null;
                  chunkBytes?: number|null;
                  deadlineMs?: number|null;
                  trace?: string|null;
                  priority?: number|null;
                  readers?: number|null;
                  grant?: kvferry.peer.v1.Grant.$Shape|null;
                  tenant?: string|null;
                  profiles?: string[]|null;
                  $unknowns?: Uint8Array[];
                } & (
                  ({ source?: undefined; handle?: null; keys?: null; ranges?: null }|{ source?: "handle"; handle: string; keys?: null; ranges?: null }|{ source?: "keys"; handle?: null; keys: kvferry.peer.v1.Keys.$Shape; ranges?: null }|{ source?: "ranges"; handle?: null; keys?: null; ranges: kvferry.peer.v1.Ranges.$Shape })
                );
            }

            /**
             * Properties of a Grant.
             * @deprecated Use kvferry.peer.v1.Grant.$Properties instead.
             */
            interface IGrant extends kvferry.peer.v1.Grant.$Properties {
            }

            /** Represents a Grant. */
            class Grant {

                /**
                 * Constructs a new Grant.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Grant.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Grant grant. */
                grant: number;

                /** Grant generation. */
                generation: number;

                /** Grant layout. */
                layout: Uint8Array;

                /** Grant order. */
                order: string;

                /** Grant held. */
                held: Uint8Array;

                /** Grant groups. */
                groups: kvferry.peer.v1.GroupTokens.$Properties[];

                /** Grant firstHead. */
                firstHead: number;

                /** Grant heads. */
                heads: number;

                /** Grant chunkBytes. */
                chunkBytes: number;

                /** Grant checksum. */
                checksum: boolean;

                /** Grant coding. */
                coding?: (kvferry.peer.v1.Coding.$Properties|null);

                /**
                 * Encodes the specified Grant message. Does not implicitly {@link kvferry.peer.v1.Grant.verify|verify} messages.
                 * @param m Grant message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Grant.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Grant message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Grant & kvferry.peer.v1.Grant.$Shape} Grant
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Grant & kvferry.peer.v1.Grant.$Shape;
            }

            namespace Grant {

                /** Properties of a Grant. */
                interface $Properties {

                    /** Grant grant */
                    grant?: (number|null);

                    /** Grant generation */
                    generation?: (number|null);

                    /** Grant layout */
                    layout?: (Uint8Array|null);

                    /** Grant order */
                    order?: (string|null);

                    /** Grant held */
                    held?: (Uint8Array|null);

                    /** Grant groups */
                    groups?: (kvferry.peer.v1.GroupTokens.$Properties[]|null);

                    /** Grant firstHead */
                    firstHead?: (number|null);

                    /** Grant heads */
                    heads?: (number|null);

                    /** Grant chunkBytes */
                    chunkBytes?: (number|null);

                    /** Grant checksum */
                    checksum?: (boolean|null);

                    /** Grant coding */
                    coding?: (kvferry.peer.v1.Coding.$Properties|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Grant. */
                type $Shape = kvferry.peer.v1.Grant.$Properties;
            }

            /**
             * Properties of a Keys.
             * @deprecated Use kvferry.peer.v1.Keys.$Properties instead.
             */
            interface IKeys extends kvferry.peer.v1.Keys.$Properties {
            }

            /** Represents a Keys. */
            class Keys {

                /**
                 * Constructs a new Keys.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Keys.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Keys group. */
                group: number;

                /** Keys keys. */
                keys: Uint8Array;

                /** Keys tokens. */
                tokens: number;

                /** Keys position. */
                position: number;

                /**
                 * Encodes the specified Keys message. Does not implicitly {@link kvferry.peer.v1.Keys.verify|verify} messages.
                 * @param m Keys message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Keys.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Keys message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Keys & kvferry.peer.v1.Keys.$Shape} Keys
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Keys & kvferry.peer.v1.Keys.$Shape;
            }

            namespace Keys {

                /** Properties of a Keys. */
                interface $Properties {

                    /** Keys group */
                    group?: (number|null);

                    /** Keys keys */
                    keys?: (Uint8Array|null);

                    /** Keys tokens */
                    tokens?: (number|null);

                    /** Keys position */
                    position?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Keys. */
                type $Shape = kvferry.peer.v1.Keys.$Properties;
            }

            /**
             * Properties of a Ranges.
             * @deprecated Use kvferry.peer.v1.Ranges.$Properties instead.
             */
            interface IRanges extends kvferry.peer.v1.Ranges.$Properties {
            }

            /** Represents a Ranges. */
            class Ranges {

                /**
                 * Constructs a new Ranges.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Ranges.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Ranges buffer. */
                buffer: string;

                /** Ranges ranges. */
                ranges: kvferry.peer.v1.Range.$Properties[];

                /**
                 * Encodes the specified Ranges message. Does not implicitly {@link kvferry.peer.v1.Ranges.verify|verify} messages.
                 * @param m Ranges message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Ranges.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Ranges message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Ranges & kvferry.peer.v1.Ranges.$Shape} Ranges
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Ranges & kvferry.peer.v1.Ranges.$Shape;
            }

            namespace Ranges {

                /** Properties of a Ranges. */
                interface $Properties {

                    /** Ranges buffer */
                    buffer?: (string|null);

                    /** Ranges ranges */
                    ranges?: (kvferry.peer.v1.Range.$Properties[]|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Ranges. */
                type $Shape = kvferry.peer.v1.Ranges.$Properties;
            }

            /**
             * Properties of a Discard.
             * @deprecated Use kvferry.peer.v1.Discard.$Properties instead.
             */
            interface IDiscard extends kvferry.peer.v1.Discard.$Properties {
            }

            /** Represents a Discard. */
            class Discard {

                /**
                 * Constructs a new Discard.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Discard.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Discard handle. */
                handle: string;

                /**
                 * Encodes the specified Discard message. Does not implicitly {@link kvferry.peer.v1.Discard.verify|verify} messages.
                 * @param m Discard message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Discard.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Discard message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Discard & kvferry.peer.v1.Discard.$Shape} Discard
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Discard & kvferry.peer.v1.Discard.$Shape;
            }

            namespace Discard {

                /** Properties of a Discard. */
                interface $Properties {

                    /** Discard handle */
                    handle?: (string|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Discard. */
                type $Shape = kvferry.peer.v1.Discard.$Properties;
            }

            /**
             * Properties of a Lanes.
             * @deprecated Use kvferry.peer.v1.Lanes.$Properties instead.
             */
            interface ILanes extends kvferry.peer.v1.Lanes.$Properties {
            }

            /** Represents a Lanes. */
            class Lanes {

                /**
                 * Constructs a new Lanes.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Lanes.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Lanes lanes. */
                lanes: number;

                /** Lanes lost. */
                lost: number[];

                /**
                 * Encodes the specified Lanes message. Does not implicitly {@link kvferry.peer.v1.Lanes.verify|verify} messages.
                 * @param m Lanes message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Lanes.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Lanes message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Lanes & kvferry.peer.v1.Lanes.$Shape} Lanes
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Lanes & kvferry.peer.v1.Lanes.$Shape;
            }

            namespace Lanes {

                /** Properties of a Lanes. */
                interface $Properties {

                    /** Lanes lanes */
                    lanes?: (number|null);

                    /** Lanes lost */
                    lost?: (number[]|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Lanes. */
                type $Shape = kvferry.peer.v1.Lanes.$Properties;
            }

            /**
             * Properties of a Prewarm.
             * @deprecated Use kvferry.peer.v1.Prewarm.$Properties instead.
             */
            interface IPrewarm extends kvferry.peer.v1.Prewarm.$Properties {
            }

            /** Represents a Prewarm. */
            class Prewarm {

                /**
                 * Constructs a new Prewarm.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Prewarm.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Prewarm bytes. */
                bytes: number;

                /** Prewarm inMs. */
                inMs: number;

                /**
                 * Encodes the specified Prewarm message. Does not implicitly {@link kvferry.peer.v1.Prewarm.verify|verify} messages.
                 * @param m Prewarm message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Prewarm.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Prewarm message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Prewarm & kvferry.peer.v1.Prewarm.$Shape} Prewarm
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Prewarm & kvferry.peer.v1.Prewarm.$Shape;
            }

            namespace Prewarm {

                /** Properties of a Prewarm. */
                interface $Properties {

                    /** Prewarm bytes */
                    bytes?: (number|null);

                    /** Prewarm inMs */
                    inMs?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Prewarm. */
                type $Shape = kvferry.peer.v1.Prewarm.$Properties;
            }

            /**
             * Properties of an Offer.
             * @deprecated Use kvferry.peer.v1.Offer.$Properties instead.
             */
            interface IOffer extends kvferry.peer.v1.Offer.$Properties {
            }

            /** Represents an Offer. */
            class Offer {

                /**
                 * Constructs a new Offer.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Offer.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Offer id. */
                id: number;

                /** Offer fetch. */
                fetch: number;

                /** Offer fingerprint. */
                fingerprint: string;

                /** Offer groups. */
                groups: kvferry.peer.v1.GroupTokens.$Properties[];

                /** Offer firstHead. */
                firstHead: number;

                /** Offer heads. */
                heads: number;

                /** Offer chunkBytes. */
                chunkBytes: number;

                /** Offer checksum. */
                checksum: boolean;

                /** Offer ranges. */
                ranges?: (kvferry.peer.v1.Ranges.$Properties|null);

                /** Offer keys. */
                keys: Uint8Array;

                /** Offer deadlineMs. */
                deadlineMs: number;

                /** Offer trace. */
                trace: string;

                /** Offer layout. */
                layout: Uint8Array;

                /** Offer generation. */
                generation: number;

                /** Offer coding. */
                coding?: (kvferry.peer.v1.Coding.$Properties|null);

                /**
                 * Encodes the specified Offer message. Does not implicitly {@link kvferry.peer.v1.Offer.verify|verify} messages.
                 * @param m Offer message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Offer.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes an Offer message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Offer & kvferry.peer.v1.Offer.$Shape} Offer
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Offer & kvferry.peer.v1.Offer.$Shape;
            }

            namespace Offer {

                /** Properties of an Offer. */
                interface $Properties {

                    /** Offer id */
                    id?: (number|null);

                    /** Offer fetch */
                    fetch?: (number|null);

                    /** Offer fingerprint */
                    fingerprint?: (string|null);

                    /** Offer groups */
                    groups?: (kvferry.peer.v1.GroupTokens.$Properties[]|null);

                    /** Offer firstHead */
                    firstHead?: (number|null);

                    /** Offer heads */
                    heads?: (number|null);

                    /** Offer chunkBytes */
                    chunkBytes?: (number|null);

                    /** Offer checksum */
                    checksum?: (boolean|null);

                    /** Offer ranges */
                    ranges?: (kvferry.peer.v1.Ranges.$Properties|null);

                    /** Offer keys */
                    keys?: (Uint8Array|null);

                    /** Offer deadlineMs */
                    deadlineMs?: (number|null);

                    /** Offer trace */
                    trace?: (string|null);

                    /** Offer layout */
                    layout?: (Uint8Array|null);

                    /** Offer generation */
                    generation?: (number|null);

                    /** Offer coding */
                    coding?: (kvferry.peer.v1.Coding.$Properties|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of an Offer. */
                type $Shape = kvferry.peer.v1.Offer.$Properties;
            }

            /**
             * Properties of an Accept.
             * @deprecated Use kvferry.peer.v1.Accept.$Properties instead.
             */
            interface IAccept extends kvferry.peer.v1.Accept.$Properties {
            }

            /** Represents an Accept. */
            class Accept {

                /**
                 * Constructs a new Accept.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Accept.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Accept id. */
                id: number;

                /** Accept grant. */
                grant: number;

                /** Accept generation. */
                generation: number;

                /** Accept committed. */
                committed: Uint8Array;

                /** Accept layout. */
                layout: Uint8Array;

                /** Accept order. */
                order: string;

                /**
                 * Encodes the specified Accept message. Does not implicitly {@link kvferry.peer.v1.Accept.verify|verify} messages.
                 * @param m Accept message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Accept.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes an Accept message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Accept & kvferry.peer.v1.Accept.$Shape} Accept
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Accept & kvferry.peer.v1.Accept.$Shape;
            }

            namespace Accept {

                /** Properties of an Accept. */
                interface $Properties {

                    /** Accept id */
                    id?: (number|null);

                    /** Accept grant */
                    grant?: (number|null);

                    /** Accept generation */
                    generation?: (number|null);

                    /** Accept committed */
                    committed?: (Uint8Array|null);

                    /** Accept layout */
                    layout?: (Uint8Array|null);

                    /** Accept order */
                    order?: (string|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of an Accept. */
                type $Shape = kvferry.peer.v1.Accept.$Properties;
            }

            /**
             * Properties of a Resume.
             * @deprecated Use kvferry.peer.v1.Resume.$Properties instead.
             */
            interface IResume extends kvferry.peer.v1.Resume.$Properties {
            }

            /** Represents a Resume. */
            class Resume {

                /**
                 * Constructs a new Resume.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Resume.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Resume id. */
                id: number;

                /** Resume grant. */
                grant: number;

                /** Resume fromReceiver. */
                fromReceiver: boolean;

                /**
                 * Encodes the specified Resume message. Does not implicitly {@link kvferry.peer.v1.Resume.verify|verify} messages.
                 * @param m Resume message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Resume.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Resume message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Resume & kvferry.peer.v1.Resume.$Shape} Resume
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Resume & kvferry.peer.v1.Resume.$Shape;
            }

            namespace Resume {

                /** Properties of a Resume. */
                interface $Properties {

                    /** Resume id */
                    id?: (number|null);

                    /** Resume grant */
                    grant?: (number|null);

                    /** Resume fromReceiver */
                    fromReceiver?: (boolean|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Resume. */
                type $Shape = kvferry.peer.v1.Resume.$Properties;
            }

            /**
             * Properties of a Done.
             * @deprecated Use kvferry.peer.v1.Done.$Properties instead.
             */
            interface IDone extends kvferry.peer.v1.Done.$Properties {
            }

            /** Represents a Done. */
            class Done {

                /**
                 * Constructs a new Done.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Done.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Done id. */
                id: number;

                /** Done grant. */
                grant: number;

                /** Done fetch. */
                fetch: number;

                /**
                 * Encodes the specified Done message. Does not implicitly {@link kvferry.peer.v1.Done.verify|verify} messages.
                 * @param m Done message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Done.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Done message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Done & kvferry.peer.v1.Done.$Shape} Done
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Done & kvferry.peer.v1.Done.$Shape;
            }

            namespace Done {

                /** Properties of a Done. */
                interface $Properties {

                    /** Done id */
                    id?: (number|null);

                    /** Done grant */
                    grant?: (number|null);

                    /** Done fetch */
                    fetch?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Done. */
                type $Shape = kvferry.peer.v1.Done.$Properties;
            }

            /**
             * Properties of a Cancel.
             * @deprecated Use kvferry.peer.v1.Cancel.$Properties instead.
             */
            interface ICancel extends kvferry.peer.v1.Cancel.$Properties {
            }

            /** Represents a Cancel. */
            class Cancel {

                /**
                 * Constructs a new Cancel.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Cancel.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Cancel id. */
                id: number;

                /** Cancel fetch. */
                fetch: number;

                /** Cancel grant. */
                grant: number;

                /** Cancel code. */
                code: number;

                /** Cancel detail. */
                detail: string;

                /** Cancel fromReceiver. */
                fromReceiver: boolean;

                /**
                 * Encodes the specified Cancel message. Does not implicitly {@link kvferry.peer.v1.Cancel.verify|verify} messages.
                 * @param m Cancel message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Cancel.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Cancel message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Cancel & kvferry.peer.v1.Cancel.$Shape} Cancel
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Cancel & kvferry.peer.v1.Cancel.$Shape;
            }

            namespace Cancel {

                /** Properties of a Cancel. */
                interface $Properties {

                    /** Cancel id */
                    id?: (number|null);

                    /** Cancel fetch */
                    fetch?: (number|null);

                    /** Cancel grant */
                    grant?: (number|null);

                    /** Cancel code */
                    code?: (number|null);

                    /** Cancel detail */
                    detail?: (string|null);

                    /** Cancel fromReceiver */
                    fromReceiver?: (boolean|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Cancel. */
                type $Shape = kvferry.peer.v1.Cancel.$Properties;
            }

            /**
             * Properties of a Ping.
             * @deprecated Use kvferry.peer.v1.Ping.$Properties instead.
             */
            interface IPing extends kvferry.peer.v1.Ping.$Properties {
            }

            /** Represents a Ping. */
            class Ping {

                /**
                 * Constructs a new Ping.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Ping.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Ping id. */
                id: number;

                /**
                 * Encodes the specified Ping message. Does not implicitly {@link kvferry.peer.v1.Ping.verify|verify} messages.
                 * @param m Ping message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Ping.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Ping message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Ping & kvferry.peer.v1.Ping.$Shape} Ping
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Ping & kvferry.peer.v1.Ping.$Shape;
            }

            namespace Ping {

                /** Properties of a Ping. */
                interface $Properties {

                    /** Ping id */
                    id?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Ping. */
                type $Shape = kvferry.peer.v1.Ping.$Properties;
            }

            /**
             * Properties of a Pong.
             * @deprecated Use kvferry.peer.v1.Pong.$Properties instead.
             */
            interface IPong extends kvferry.peer.v1.Pong.$Properties {
            }

            /** Represents a Pong. */
            class Pong {

                /**
                 * Constructs a new Pong.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Pong.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Pong id. */
                id: number;

                /**
                 * Encodes the specified Pong message. Does not implicitly {@link kvferry.peer.v1.Pong.verify|verify} messages.
                 * @param m Pong message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Pong.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Pong message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Pong & kvferry.peer.v1.Pong.$Shape} Pong
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Pong & kvferry.peer.v1.Pong.$Shape;
            }

            namespace Pong {

                /** Properties of a Pong. */
                interface $Properties {

                    /** Pong id */
                    id?: (number|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Pong. */
                type $Shape = kvferry.peer.v1.Pong.$Properties;
            }

            /**
             * Properties of a Bye.
             * @deprecated Use kvferry.peer.v1.Bye.$Properties instead.
             */
            interface IBye extends kvferry.peer.v1.Bye.$Properties {
            }

            /** Represents a Bye. */
            class Bye {

                /**
                 * Constructs a new Bye.
                 * @param [p] Properties to set
                 */
                constructor(p?: kvferry.peer.v1.Bye.$Properties);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];

                /** Bye reason. */
                reason: string;

                /**
                 * Encodes the specified Bye message. Does not implicitly {@link kvferry.peer.v1.Bye.verify|verify} messages.
                 * @param m Bye message or plain object to encode
                 * @param [w] Writer to encode to
                 * @returns Writer
                 */
                static encode(m: kvferry.peer.v1.Bye.$Properties, w?: $protobuf.Writer): $protobuf.Writer;

                /**
                 * Decodes a Bye message from the specified reader or buffer.
                 * @param r Reader or buffer to decode from
                 * @param [l] Message length if known beforehand
                 * @returns {kvferry.peer.v1.Bye & kvferry.peer.v1.Bye.$Shape} Bye
                 * @throws {Error} If the payload is not a reader or valid buffer
                 * @throws {$protobuf.util.ProtocolError} If required fields are missing
                 */
                static decode(r: ($protobuf.Reader|Uint8Array), l?: number): kvferry.peer.v1.Bye & kvferry.peer.v1.Bye.$Shape;
            }

            namespace Bye {

                /** Properties of a Bye. */
                interface $Properties {

                    /** Bye reason */
                    reason?: (string|null);

                    /** Unknown fields preserved while decoding when enabled */
                    $unknowns?: Uint8Array[];
                }

                /** Shape of a Bye. */
                type $Shape = kvferry.peer.v1.Bye.$Properties;
            }
        }
    }
}
