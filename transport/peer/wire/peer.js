/*eslint-disable block-scoped-var, id-length, no-control-regex, no-magic-numbers, no-mixed-operators, no-prototype-builtins, no-redeclare, no-shadow, no-var, sort-vars, default-case, jsdoc/require-param*/
import $protobuf from "protobufjs/minimal.js";

const $Reader = $protobuf.Reader, $Writer = $protobuf.Writer, $util = $protobuf.util;
const $Object = $util.global.Object, $undefined = $util.global.undefined, $Error = $util.global.Error, $RangeError = $util.global.RangeError;

const $root = $protobuf.roots["default"] || ($protobuf.roots["default"] = {});

export const kvferry = $root.kvferry = (() => {

    const kvferry = {};

    kvferry.peer = (function() {

        const peer = {};

        peer.v1 = (function() {

            const v1 = {};

            v1.Envelope = (function() {

                const Envelope = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Envelope.prototype.hello = null;
                Envelope.prototype.refuse = null;
                Envelope.prototype.models = null;
                Envelope.prototype.lookup = null;
                Envelope.prototype.lookupReply = null;
                Envelope.prototype.fetch = null;
                Envelope.prototype.offer = null;
                Envelope.prototype.accept = null;
                Envelope.prototype.done = null;
                Envelope.prototype.cancel = null;
                Envelope.prototype.ping = null;
                Envelope.prototype.pong = null;
                Envelope.prototype.bye = null;
                Envelope.prototype.resume = null;
                Envelope.prototype.discard = null;
                Envelope.prototype.lanes = null;
                Envelope.prototype.prewarm = null;

                let $oneOfFields;

                $Object.defineProperty(Envelope.prototype, "kind", {
                    get: $util.oneOfGetter($oneOfFields = ["hello", "refuse", "models", "lookup", "lookupReply", "fetch", "offer", "accept", "done", "cancel", "ping", "pong", "bye", "resume", "discard", "lanes", "prewarm"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                Envelope.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.hello != null && $Object.hasOwnProperty.call(m, "hello"))
                        $root.kvferry.peer.v1.Hello.encode(m.hello, w.uint32(10).fork(), q + 1).ldelim();
                    if (m.refuse != null && $Object.hasOwnProperty.call(m, "refuse"))
                        $root.kvferry.peer.v1.Refuse.encode(m.refuse, w.uint32(18).fork(), q + 1).ldelim();
                    if (m.models != null && $Object.hasOwnProperty.call(m, "models"))
                        $root.kvferry.peer.v1.Models.encode(m.models, w.uint32(26).fork(), q + 1).ldelim();
                    if (m.lookup != null && $Object.hasOwnProperty.call(m, "lookup"))
                        $root.kvferry.peer.v1.Lookup.encode(m.lookup, w.uint32(34).fork(), q + 1).ldelim();
                    if (m.lookupReply != null && $Object.hasOwnProperty.call(m, "lookupReply"))
                        $root.kvferry.peer.v1.LookupReply.encode(m.lookupReply, w.uint32(42).fork(), q + 1).ldelim();
                    if (m.fetch != null && $Object.hasOwnProperty.call(m, "fetch"))
                        $root.kvferry.peer.v1.Fetch.encode(m.fetch, w.uint32(50).fork(), q + 1).ldelim();
                    if (m.offer != null && $Object.hasOwnProperty.call(m, "offer"))
                        $root.kvferry.peer.v1.Offer.encode(m.offer, w.uint32(58).fork(), q + 1).ldelim();
                    if (m.accept != null && $Object.hasOwnProperty.call(m, "accept"))
                        $root.kvferry.peer.v1.Accept.encode(m.accept, w.uint32(66).fork(), q + 1).ldelim();
                    if (m.done != null && $Object.hasOwnProperty.call(m, "done"))
                        $root.kvferry.peer.v1.Done.encode(m.done, w.uint32(74).fork(), q + 1).ldelim();
                    if (m.cancel != null && $Object.hasOwnProperty.call(m, "cancel"))
                        $root.kvferry.peer.v1.Cancel.encode(m.cancel, w.uint32(82).fork(), q + 1).ldelim();
                    if (m.ping != null && $Object.hasOwnProperty.call(m, "ping"))
                        $root.kvferry.peer.v1.Ping.encode(m.ping, w.uint32(90).fork(), q + 1).ldelim();
                    if (m.pong != null && $Object.hasOwnProperty.call(m, "pong"))
                        $root.kvferry.peer.v1.Pong.encode(m.pong, w.uint32(98).fork(), q + 1).ldelim();
                    if (m.bye != null && $Object.hasOwnProperty.call(m, "bye"))
                        $root.kvferry.peer.v1.Bye.encode(m.bye, w.uint32(106).fork(), q + 1).ldelim();
                    if (m.resume != null && $Object.hasOwnProperty.call(m, "resume"))
                        $root.kvferry.peer.v1.Resume.encode(m.resume, w.uint32(114).fork(), q + 1).ldelim();
                    if (m.discard != null && $Object.hasOwnProperty.call(m, "discard"))
                        $root.kvferry.peer.v1.Discard.encode(m.discard, w.uint32(122).fork(), q + 1).ldelim();
                    if (m.lanes != null && $Object.hasOwnProperty.call(m, "lanes"))
                        $root.kvferry.peer.v1.Lanes.encode(m.lanes, w.uint32(162).fork(), q + 1).ldelim();
                    if (m.prewarm != null && $Object.hasOwnProperty.call(m, "prewarm"))
                        $root.kvferry.peer.v1.Prewarm.encode(m.prewarm, w.uint32(170).fork(), q + 1).ldelim();
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Envelope.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Envelope();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 2)
                                    break;
                                m.hello = $root.kvferry.peer.v1.Hello.decode(r, r.size(), $undefined, q + 1, m.hello);
                                m.kind = "hello";
                                continue;
                            }
                        case 2: {
                                if (u !== 2)
                                    break;
                                m.refuse = $root.kvferry.peer.v1.Refuse.decode(r, r.size(), $undefined, q + 1, m.refuse);
                                m.kind = "refuse";
                                continue;
                            }
                        case 3: {
                                if (u !== 2)
                                    break;
                                m.models = $root.kvferry.peer.v1.Models.decode(r, r.size(), $undefined, q + 1, m.models);
                                m.kind = "models";
                                continue;
                            }
                        case 4: {
                                if (u !== 2)
                                    break;
                                m.lookup = $root.kvferry.peer.v1.Lookup.decode(r, r.size(), $undefined, q + 1, m.lookup);
                                m.kind = "lookup";
                                continue;
                            }
                        case 5: {
                                if (u !== 2)
                                    break;
                                m.lookupReply = $root.kvferry.peer.v1.LookupReply.decode(r, r.size(), $undefined, q + 1, m.lookupReply);
                                m.kind = "lookupReply";
                                continue;
                            }
                        case 6: {
                                if (u !== 2)
                                    break;
                                m.fetch = $root.kvferry.peer.v1.Fetch.decode(r, r.size(), $undefined, q + 1, m.fetch);
                                m.kind = "fetch";
                                continue;
                            }
                        case 7: {
                                if (u !== 2)
                                    break;
                                m.offer = $root.kvferry.peer.v1.Offer.decode(r, r.size(), $undefined, q + 1, m.offer);
                                m.kind = "offer";
                                continue;
                            }
                        case 8: {
                                if (u !== 2)
                                    break;
                                m.accept = $root.kvferry.peer.v1.Accept.decode(r, r.size(), $undefined, q + 1, m.accept);
                                m.kind = "accept";
                                continue;
                            }
                        case 9: {
                                if (u !== 2)
                                    break;
                                m.done = $root.kvferry.peer.v1.Done.decode(r, r.size(), $undefined, q + 1, m.done);
                                m.kind = "done";
                                continue;
                            }
                        case 10: {
                                if (u !== 2)
                                    break;
                                m.cancel = $root.kvferry.peer.v1.Cancel.decode(r, r.size(), $undefined, q + 1, m.cancel);
                                m.kind = "cancel";
                                continue;
                            }
                        case 11: {
                                if (u !== 2)
                                    break;
                                m.ping = $root.kvferry.peer.v1.Ping.decode(r, r.size(), $undefined, q + 1, m.ping);
                                m.kind = "ping";
                                continue;
                            }
                        case 12: {
                                if (u !== 2)
                                    break;
                                m.pong = $root.kvferry.peer.v1.Pong.decode(r, r.size(), $undefined, q + 1, m.pong);
                                m.kind = "pong";
                                continue;
                            }
                        case 13: {
                                if (u !== 2)
                                    break;
                                m.bye = $root.kvferry.peer.v1.Bye.decode(r, r.size(), $undefined, q + 1, m.bye);
                                m.kind = "bye";
                                continue;
                            }
                        case 14: {
                                if (u !== 2)
                                    break;
                                m.resume = $root.kvferry.peer.v1.Resume.decode(r, r.size(), $undefined, q + 1, m.resume);
                                m.kind = "resume";
                                continue;
                            }
                        case 15: {
                                if (u !== 2)
                                    break;
                                m.discard = $root.kvferry.peer.v1.Discard.decode(r, r.size(), $undefined, q + 1, m.discard);
                                m.kind = "discard";
                                continue;
                            }
                        case 20: {
                                if (u !== 2)
                                    break;
                                m.lanes = $root.kvferry.peer.v1.Lanes.decode(r, r.size(), $undefined, q + 1, m.lanes);
                                m.kind = "lanes";
                                continue;
                            }
                        case 21: {
                                if (u !== 2)
                                    break;
                                m.prewarm = $root.kvferry.peer.v1.Prewarm.decode(r, r.size(), $undefined, q + 1, m.prewarm);
                                m.kind = "prewarm";
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Envelope;
            })();

            v1.Hello = (function() {

                const Hello = function (p) {
                    this.capabilities = [];
                    this.models = [];
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Hello.prototype.version = 0;
                Hello.prototype.minVersion = 0;
                Hello.prototype.node = "";
                Hello.prototype.name = "";
                Hello.prototype.software = "";
                Hello.prototype.advertise = "";
                Hello.prototype.capabilities = $util.emptyArray;
                Hello.prototype.chunkBytesMax = 0;
                Hello.prototype.lanesMax = 0;
                Hello.prototype.laneToken = $util.newBuffer([]);
                Hello.prototype.secret = "";
                Hello.prototype.models = $util.emptyArray;
                Hello.prototype.resumeNode = "";
                Hello.prototype.conversation = 0;
                Hello.prototype.tenant = "";

                Hello.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.version != null && $Object.hasOwnProperty.call(m, "version") && m.version !== 0)
                        w.uint32(8).uint32(m.version);
                    if (m.minVersion != null && $Object.hasOwnProperty.call(m, "minVersion") && m.minVersion !== 0)
                        w.uint32(16).uint32(m.minVersion);
                    if (m.node != null && $Object.hasOwnProperty.call(m, "node") && m.node !== "")
                        w.uint32(26).string(m.node);
                    if (m.name != null && $Object.hasOwnProperty.call(m, "name") && m.name !== "")
                        w.uint32(34).string(m.name);
                    if (m.software != null && $Object.hasOwnProperty.call(m, "software") && m.software !== "")
                        w.uint32(42).string(m.software);
                    if (m.advertise != null && $Object.hasOwnProperty.call(m, "advertise") && m.advertise !== "")
                        w.uint32(50).string(m.advertise);
                    if (m.capabilities != null && m.capabilities.length) {
                        for (var i = 0; i < m.capabilities.length; ++i)
                            w.uint32(58).string(m.capabilities[i]);
                    }
                    if (m.chunkBytesMax != null && $Object.hasOwnProperty.call(m, "chunkBytesMax") && m.chunkBytesMax !== 0)
                        w.uint32(64).uint32(m.chunkBytesMax);
                    if (m.lanesMax != null && $Object.hasOwnProperty.call(m, "lanesMax") && m.lanesMax !== 0)
                        w.uint32(72).uint32(m.lanesMax);
                    if (m.laneToken != null && $Object.hasOwnProperty.call(m, "laneToken") && m.laneToken.length)
                        w.uint32(82).bytes(m.laneToken);
                    if (m.secret != null && $Object.hasOwnProperty.call(m, "secret") && m.secret !== "")
                        w.uint32(90).string(m.secret);
                    if (m.models != null && m.models.length) {
                        for (var i = 0; i < m.models.length; ++i)
                            $root.kvferry.peer.v1.Model.encode(m.models[i], w.uint32(98).fork(), q + 1).ldelim();
                    }
                    if (m.resumeNode != null && $Object.hasOwnProperty.call(m, "resumeNode") && m.resumeNode !== "")
                        w.uint32(106).string(m.resumeNode);
                    if (m.conversation != null && $Object.hasOwnProperty.call(m, "conversation") && m.conversation !== 0)
                        w.uint32(112).uint32(m.conversation);
                    if (m.tenant != null && $Object.hasOwnProperty.call(m, "tenant") && m.tenant !== "")
                        w.uint32(122).string(m.tenant);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Hello.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Hello();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.version = v;
                                else
                                    delete m.version;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.minVersion = v;
                                else
                                    delete m.minVersion;
                                continue;
                            }
                        case 3: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.node = v;
                                else
                                    delete m.node;
                                continue;
                            }
                        case 4: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.name = v;
                                else
                                    delete m.name;
                                continue;
                            }
                        case 5: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.software = v;
                                else
                                    delete m.software;
                                continue;
                            }
                        case 6: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.advertise = v;
                                else
                                    delete m.advertise;
                                continue;
                            }
                        case 7: {
                                if (u !== 2)
                                    break;
                                if (!(m.capabilities && m.capabilities.length))
                                    m.capabilities = [];
                                m.capabilities.push(r.stringVerify());
                                continue;
                            }
                        case 8: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.chunkBytesMax = v;
                                else
                                    delete m.chunkBytesMax;
                                continue;
                            }
                        case 9: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.lanesMax = v;
                                else
                                    delete m.lanesMax;
                                continue;
                            }
                        case 10: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.laneToken = v;
                                else
                                    delete m.laneToken;
                                continue;
                            }
                        case 11: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.secret = v;
                                else
                                    delete m.secret;
                                continue;
                            }
                        case 12: {
                                if (u !== 2)
                                    break;
                                if (!(m.models && m.models.length))
                                    m.models = [];
                                m.models.push($root.kvferry.peer.v1.Model.decode(r, r.size(), $undefined, q + 1));
                                continue;
                            }
                        case 13: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.resumeNode = v;
                                else
                                    delete m.resumeNode;
                                continue;
                            }
                        case 14: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.conversation = v;
                                else
                                    delete m.conversation;
                                continue;
                            }
                        case 15: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.tenant = v;
                                else
                                    delete m.tenant;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Hello;
            })();

            v1.Model = (function() {

                const Model = function (p) {
                    this.profiles = [];
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Model.prototype.fingerprint = "";
                Model.prototype.layout = $util.newBuffer([]);
                Model.prototype.profiles = $util.emptyArray;

                Model.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.fingerprint != null && $Object.hasOwnProperty.call(m, "fingerprint") && m.fingerprint !== "")
                        w.uint32(10).string(m.fingerprint);
                    if (m.layout != null && $Object.hasOwnProperty.call(m, "layout") && m.layout.length)
                        w.uint32(18).bytes(m.layout);
                    if (m.profiles != null && m.profiles.length) {
                        for (var i = 0; i < m.profiles.length; ++i)
                            $root.kvferry.peer.v1.Profile.encode(m.profiles[i], w.uint32(26).fork(), q + 1).ldelim();
                    }
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Model.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Model();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.fingerprint = v;
                                else
                                    delete m.fingerprint;
                                continue;
                            }
                        case 2: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.layout = v;
                                else
                                    delete m.layout;
                                continue;
                            }
                        case 3: {
                                if (u !== 2)
                                    break;
                                if (!(m.profiles && m.profiles.length))
                                    m.profiles = [];
                                m.profiles.push($root.kvferry.peer.v1.Profile.decode(r, r.size(), $undefined, q + 1));
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Model;
            })();

            v1.Profile = (function() {

                const Profile = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Profile.prototype.id = "";
                Profile.prototype.decodeBytesPerSecond = $util.Long ? $util.Long.fromBits(0,0,true) : 0;

                Profile.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== "")
                        w.uint32(10).string(m.id);
                    if (m.decodeBytesPerSecond != null && $Object.hasOwnProperty.call(m, "decodeBytesPerSecond") && (typeof m.decodeBytesPerSecond === "object" ? m.decodeBytesPerSecond.low || m.decodeBytesPerSecond.high : m.decodeBytesPerSecond !== 0))
                        w.uint32(16).uint64(m.decodeBytesPerSecond);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Profile.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Profile();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.decodeBytesPerSecond = v;
                                else
                                    delete m.decodeBytesPerSecond;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Profile;
            })();

            v1.Coding = (function() {

                const Coding = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Coding.prototype.profile = "";
                Coding.prototype.position = 0;

                Coding.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.profile != null && $Object.hasOwnProperty.call(m, "profile") && m.profile !== "")
                        w.uint32(10).string(m.profile);
                    if (m.position != null && $Object.hasOwnProperty.call(m, "position") && m.position !== 0)
                        w.uint32(16).uint32(m.position);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Coding.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Coding();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.profile = v;
                                else
                                    delete m.profile;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.position = v;
                                else
                                    delete m.position;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Coding;
            })();

            v1.Models = (function() {

                const Models = function (p) {
                    this.models = [];
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Models.prototype.models = $util.emptyArray;

                Models.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.models != null && m.models.length) {
                        for (var i = 0; i < m.models.length; ++i)
                            $root.kvferry.peer.v1.Model.encode(m.models[i], w.uint32(10).fork(), q + 1).ldelim();
                    }
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Models.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Models();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 2)
                                    break;
                                if (!(m.models && m.models.length))
                                    m.models = [];
                                m.models.push($root.kvferry.peer.v1.Model.decode(r, r.size(), $undefined, q + 1));
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Models;
            })();

            v1.Refuse = (function() {

                const Refuse = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Refuse.prototype.code = 0;
                Refuse.prototype.detail = "";
                Refuse.prototype.version = 0;
                Refuse.prototype.minVersion = 0;
                Refuse.prototype.re = 0;

                Refuse.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.code != null && $Object.hasOwnProperty.call(m, "code") && m.code !== 0)
                        w.uint32(8).uint32(m.code);
                    if (m.detail != null && $Object.hasOwnProperty.call(m, "detail") && m.detail !== "")
                        w.uint32(18).string(m.detail);
                    if (m.version != null && $Object.hasOwnProperty.call(m, "version") && m.version !== 0)
                        w.uint32(24).uint32(m.version);
                    if (m.minVersion != null && $Object.hasOwnProperty.call(m, "minVersion") && m.minVersion !== 0)
                        w.uint32(32).uint32(m.minVersion);
                    if (m.re != null && $Object.hasOwnProperty.call(m, "re") && m.re !== 0)
                        w.uint32(40).uint32(m.re);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Refuse.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Refuse();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.code = v;
                                else
                                    delete m.code;
                                continue;
                            }
                        case 2: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.detail = v;
                                else
                                    delete m.detail;
                                continue;
                            }
                        case 3: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.version = v;
                                else
                                    delete m.version;
                                continue;
                            }
                        case 4: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.minVersion = v;
                                else
                                    delete m.minVersion;
                                continue;
                            }
                        case 5: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.re = v;
                                else
                                    delete m.re;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Refuse;
            })();

            v1.Lookup = (function() {

                const Lookup = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Lookup.prototype.id = 0;
                Lookup.prototype.fingerprint = "";
                Lookup.prototype.group = 0;
                Lookup.prototype.keys = $util.newBuffer([]);
                Lookup.prototype.tenant = "";

                Lookup.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.fingerprint != null && $Object.hasOwnProperty.call(m, "fingerprint") && m.fingerprint !== "")
                        w.uint32(18).string(m.fingerprint);
                    if (m.group != null && $Object.hasOwnProperty.call(m, "group") && m.group !== 0)
                        w.uint32(24).uint32(m.group);
                    if (m.keys != null && $Object.hasOwnProperty.call(m, "keys") && m.keys.length)
                        w.uint32(34).bytes(m.keys);
                    if (m.tenant != null && $Object.hasOwnProperty.call(m, "tenant") && m.tenant !== "")
                        w.uint32(42).string(m.tenant);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Lookup.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Lookup();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.fingerprint = v;
                                else
                                    delete m.fingerprint;
                                continue;
                            }
                        case 3: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.group = v;
                                else
                                    delete m.group;
                                continue;
                            }
                        case 4: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.keys = v;
                                else
                                    delete m.keys;
                                continue;
                            }
                        case 5: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.tenant = v;
                                else
                                    delete m.tenant;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Lookup;
            })();

            v1.LookupReply = (function() {

                const LookupReply = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                LookupReply.prototype.id = 0;
                LookupReply.prototype.code = 0;
                LookupReply.prototype.matched = 0;

                LookupReply.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.code != null && $Object.hasOwnProperty.call(m, "code") && m.code !== 0)
                        w.uint32(16).uint32(m.code);
                    if (m.matched != null && $Object.hasOwnProperty.call(m, "matched") && m.matched !== 0)
                        w.uint32(24).uint32(m.matched);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                LookupReply.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.LookupReply();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.code = v;
                                else
                                    delete m.code;
                                continue;
                            }
                        case 3: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.matched = v;
                                else
                                    delete m.matched;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return LookupReply;
            })();

            v1.GroupTokens = (function() {

                const GroupTokens = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                GroupTokens.prototype.group = 0;
                GroupTokens.prototype.tokens = 0;

                GroupTokens.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.group != null && $Object.hasOwnProperty.call(m, "group") && m.group !== 0)
                        w.uint32(8).uint32(m.group);
                    if (m.tokens != null && $Object.hasOwnProperty.call(m, "tokens") && m.tokens !== 0)
                        w.uint32(16).uint32(m.tokens);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                GroupTokens.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.GroupTokens();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.group = v;
                                else
                                    delete m.group;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.tokens = v;
                                else
                                    delete m.tokens;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return GroupTokens;
            })();

            v1.Range = (function() {

                const Range = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Range.prototype.offset = $util.Long ? $util.Long.fromBits(0,0,true) : 0;
                Range.prototype.bytes = $util.Long ? $util.Long.fromBits(0,0,true) : 0;

                Range.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.offset != null && $Object.hasOwnProperty.call(m, "offset") && (typeof m.offset === "object" ? m.offset.low || m.offset.high : m.offset !== 0))
                        w.uint32(8).uint64(m.offset);
                    if (m.bytes != null && $Object.hasOwnProperty.call(m, "bytes") && (typeof m.bytes === "object" ? m.bytes.low || m.bytes.high : m.bytes !== 0))
                        w.uint32(16).uint64(m.bytes);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Range.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Range();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.offset = v;
                                else
                                    delete m.offset;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.bytes = v;
                                else
                                    delete m.bytes;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Range;
            })();

            v1.Fetch = (function() {

                const Fetch = function (p) {
                    this.profiles = [];
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Fetch.prototype.id = 0;
                Fetch.prototype.fingerprint = "";
                Fetch.prototype.handle = null;
                Fetch.prototype.keys = null;
                Fetch.prototype.ranges = null;
                Fetch.prototype.firstHead = 0;
                Fetch.prototype.heads = 0;
                Fetch.prototype.chunkBytes = 0;
                Fetch.prototype.deadlineMs = 0;
                Fetch.prototype.trace = "";
                Fetch.prototype.priority = 0;
                Fetch.prototype.readers = 0;
                Fetch.prototype.grant = null;
                Fetch.prototype.tenant = "";
                Fetch.prototype.profiles = $util.emptyArray;

                let $oneOfFields;

                $Object.defineProperty(Fetch.prototype, "source", {
                    get: $util.oneOfGetter($oneOfFields = ["handle", "keys", "ranges"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                Fetch.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.fingerprint != null && $Object.hasOwnProperty.call(m, "fingerprint") && m.fingerprint !== "")
                        w.uint32(18).string(m.fingerprint);
                    if (m.handle != null && $Object.hasOwnProperty.call(m, "handle"))
                        w.uint32(26).string(m.handle);
                    if (m.keys != null && $Object.hasOwnProperty.call(m, "keys"))
                        $root.kvferry.peer.v1.Keys.encode(m.keys, w.uint32(34).fork(), q + 1).ldelim();
                    if (m.ranges != null && $Object.hasOwnProperty.call(m, "ranges"))
                        $root.kvferry.peer.v1.Ranges.encode(m.ranges, w.uint32(42).fork(), q + 1).ldelim();
                    if (m.firstHead != null && $Object.hasOwnProperty.call(m, "firstHead") && m.firstHead !== 0)
                        w.uint32(48).uint32(m.firstHead);
                    if (m.heads != null && $Object.hasOwnProperty.call(m, "heads") && m.heads !== 0)
                        w.uint32(56).uint32(m.heads);
                    if (m.chunkBytes != null && $Object.hasOwnProperty.call(m, "chunkBytes") && m.chunkBytes !== 0)
                        w.uint32(64).uint32(m.chunkBytes);
                    if (m.deadlineMs != null && $Object.hasOwnProperty.call(m, "deadlineMs") && m.deadlineMs !== 0)
                        w.uint32(72).uint32(m.deadlineMs);
                    if (m.trace != null && $Object.hasOwnProperty.call(m, "trace") && m.trace !== "")
                        w.uint32(82).string(m.trace);
                    if (m.readers != null && $Object.hasOwnProperty.call(m, "readers") && m.readers !== 0)
                        w.uint32(88).uint32(m.readers);
                    if (m.grant != null && $Object.hasOwnProperty.call(m, "grant"))
                        $root.kvferry.peer.v1.Grant.encode(m.grant, w.uint32(98).fork(), q + 1).ldelim();
                    if (m.tenant != null && $Object.hasOwnProperty.call(m, "tenant") && m.tenant !== "")
                        w.uint32(106).string(m.tenant);
                    if (m.profiles != null && m.profiles.length) {
                        for (var i = 0; i < m.profiles.length; ++i)
                            w.uint32(114).string(m.profiles[i]);
                    }
                    if (m.priority != null && $Object.hasOwnProperty.call(m, "priority") && m.priority !== 0)
                        w.uint32(160).uint32(m.priority);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Fetch.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Fetch();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.fingerprint = v;
                                else
                                    delete m.fingerprint;
                                continue;
                            }
                        case 3: {
                                if (u !== 2)
                                    break;
                                m.handle = r.stringVerify();
                                m.source = "handle";
                                continue;
                            }
                        case 4: {
                                if (u !== 2)
                                    break;
                                m.keys = $root.kvferry.peer.v1.Keys.decode(r, r.size(), $undefined, q + 1, m.keys);
                                m.source = "keys";
                                continue;
                            }
                        case 5: {
                                if (u !== 2)
                                    break;
                                m.ranges = $root.kvferry.peer.v1.Ranges.decode(r, r.size(), $undefined, q + 1, m.ranges);
                                m.source = "ranges";
                                continue;
                            }
                        case 6: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.firstHead = v;
                                else
                                    delete m.firstHead;
                                continue;
                            }
                        case 7: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.heads = v;
                                else
                                    delete m.heads;
                                continue;
                            }
                        case 8: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.chunkBytes = v;
                                else
                                    delete m.chunkBytes;
                                continue;
                            }
                        case 9: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.deadlineMs = v;
                                else
                                    delete m.deadlineMs;
                                continue;
                            }
                        case 10: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.trace = v;
                                else
                                    delete m.trace;
                                continue;
                            }
                        case 20: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.priority = v;
                                else
                                    delete m.priority;
                                continue;
                            }
                        case 11: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.readers = v;
                                else
                                    delete m.readers;
                                continue;
                            }
                        case 12: {
                                if (u !== 2)
                                    break;
                                m.grant = $root.kvferry.peer.v1.Grant.decode(r, r.size(), $undefined, q + 1, m.grant);
                                continue;
                            }
                        case 13: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.tenant = v;
                                else
                                    delete m.tenant;
                                continue;
                            }
                        case 14: {
                                if (u !== 2)
                                    break;
                                if (!(m.profiles && m.profiles.length))
                                    m.profiles = [];
                                m.profiles.push(r.stringVerify());
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Fetch;
            })();

            v1.Grant = (function() {

                const Grant = function (p) {
                    this.groups = [];
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Grant.prototype.grant = $util.Long ? $util.Long.fromBits(0,0,true) : 0;
                Grant.prototype.generation = 0;
                Grant.prototype.layout = $util.newBuffer([]);
                Grant.prototype.order = "";
                Grant.prototype.held = $util.newBuffer([]);
                Grant.prototype.groups = $util.emptyArray;
                Grant.prototype.firstHead = 0;
                Grant.prototype.heads = 0;
                Grant.prototype.chunkBytes = 0;
                Grant.prototype.checksum = false;
                Grant.prototype.coding = null;

                Grant.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.grant != null && $Object.hasOwnProperty.call(m, "grant") && (typeof m.grant === "object" ? m.grant.low || m.grant.high : m.grant !== 0))
                        w.uint32(8).uint64(m.grant);
                    if (m.generation != null && $Object.hasOwnProperty.call(m, "generation") && m.generation !== 0)
                        w.uint32(16).uint32(m.generation);
                    if (m.layout != null && $Object.hasOwnProperty.call(m, "layout") && m.layout.length)
                        w.uint32(26).bytes(m.layout);
                    if (m.order != null && $Object.hasOwnProperty.call(m, "order") && m.order !== "")
                        w.uint32(34).string(m.order);
                    if (m.held != null && $Object.hasOwnProperty.call(m, "held") && m.held.length)
                        w.uint32(42).bytes(m.held);
                    if (m.groups != null && m.groups.length) {
                        for (var i = 0; i < m.groups.length; ++i)
                            $root.kvferry.peer.v1.GroupTokens.encode(m.groups[i], w.uint32(50).fork(), q + 1).ldelim();
                    }
                    if (m.firstHead != null && $Object.hasOwnProperty.call(m, "firstHead") && m.firstHead !== 0)
                        w.uint32(56).uint32(m.firstHead);
                    if (m.heads != null && $Object.hasOwnProperty.call(m, "heads") && m.heads !== 0)
                        w.uint32(64).uint32(m.heads);
                    if (m.chunkBytes != null && $Object.hasOwnProperty.call(m, "chunkBytes") && m.chunkBytes !== 0)
                        w.uint32(72).uint32(m.chunkBytes);
                    if (m.checksum != null && $Object.hasOwnProperty.call(m, "checksum") && m.checksum !== false)
                        w.uint32(80).bool(m.checksum);
                    if (m.coding != null && $Object.hasOwnProperty.call(m, "coding"))
                        $root.kvferry.peer.v1.Coding.encode(m.coding, w.uint32(90).fork(), q + 1).ldelim();
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Grant.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Grant();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.grant = v;
                                else
                                    delete m.grant;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.generation = v;
                                else
                                    delete m.generation;
                                continue;
                            }
                        case 3: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.layout = v;
                                else
                                    delete m.layout;
                                continue;
                            }
                        case 4: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.order = v;
                                else
                                    delete m.order;
                                continue;
                            }
                        case 5: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.held = v;
                                else
                                    delete m.held;
                                continue;
                            }
                        case 6: {
                                if (u !== 2)
                                    break;
                                if (!(m.groups && m.groups.length))
                                    m.groups = [];
                                m.groups.push($root.kvferry.peer.v1.GroupTokens.decode(r, r.size(), $undefined, q + 1));
                                continue;
                            }
                        case 7: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.firstHead = v;
                                else
                                    delete m.firstHead;
                                continue;
                            }
                        case 8: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.heads = v;
                                else
                                    delete m.heads;
                                continue;
                            }
                        case 9: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.chunkBytes = v;
                                else
                                    delete m.chunkBytes;
                                continue;
                            }
                        case 10: {
                                if (u !== 0)
                                    break;
                                if (v = r.bool())
                                    m.checksum = v;
                                else
                                    delete m.checksum;
                                continue;
                            }
                        case 11: {
                                if (u !== 2)
                                    break;
                                m.coding = $root.kvferry.peer.v1.Coding.decode(r, r.size(), $undefined, q + 1, m.coding);
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Grant;
            })();

            v1.Keys = (function() {

                const Keys = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Keys.prototype.group = 0;
                Keys.prototype.keys = $util.newBuffer([]);
                Keys.prototype.tokens = 0;
                Keys.prototype.position = 0;

                Keys.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.group != null && $Object.hasOwnProperty.call(m, "group") && m.group !== 0)
                        w.uint32(8).uint32(m.group);
                    if (m.keys != null && $Object.hasOwnProperty.call(m, "keys") && m.keys.length)
                        w.uint32(18).bytes(m.keys);
                    if (m.tokens != null && $Object.hasOwnProperty.call(m, "tokens") && m.tokens !== 0)
                        w.uint32(24).uint32(m.tokens);
                    if (m.position != null && $Object.hasOwnProperty.call(m, "position") && m.position !== 0)
                        w.uint32(32).uint32(m.position);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Keys.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Keys();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.group = v;
                                else
                                    delete m.group;
                                continue;
                            }
                        case 2: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.keys = v;
                                else
                                    delete m.keys;
                                continue;
                            }
                        case 3: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.tokens = v;
                                else
                                    delete m.tokens;
                                continue;
                            }
                        case 4: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.position = v;
                                else
                                    delete m.position;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Keys;
            })();

            v1.Ranges = (function() {

                const Ranges = function (p) {
                    this.ranges = [];
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Ranges.prototype.buffer = "";
                Ranges.prototype.ranges = $util.emptyArray;

                Ranges.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.buffer != null && $Object.hasOwnProperty.call(m, "buffer") && m.buffer !== "")
                        w.uint32(10).string(m.buffer);
                    if (m.ranges != null && m.ranges.length) {
                        for (var i = 0; i < m.ranges.length; ++i)
                            $root.kvferry.peer.v1.Range.encode(m.ranges[i], w.uint32(18).fork(), q + 1).ldelim();
                    }
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Ranges.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Ranges();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.buffer = v;
                                else
                                    delete m.buffer;
                                continue;
                            }
                        case 2: {
                                if (u !== 2)
                                    break;
                                if (!(m.ranges && m.ranges.length))
                                    m.ranges = [];
                                m.ranges.push($root.kvferry.peer.v1.Range.decode(r, r.size(), $undefined, q + 1));
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Ranges;
            })();

            v1.Discard = (function() {

                const Discard = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Discard.prototype.handle = "";

                Discard.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.handle != null && $Object.hasOwnProperty.call(m, "handle") && m.handle !== "")
                        w.uint32(10).string(m.handle);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Discard.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Discard();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.handle = v;
                                else
                                    delete m.handle;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Discard;
            })();

            v1.Lanes = (function() {

                const Lanes = function (p) {
                    this.lost = [];
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Lanes.prototype.lanes = 0;
                Lanes.prototype.lost = $util.emptyArray;

                Lanes.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.lanes != null && $Object.hasOwnProperty.call(m, "lanes") && m.lanes !== 0)
                        w.uint32(8).uint32(m.lanes);
                    if (m.lost != null && m.lost.length) {
                        w.uint32(18).uint32s(m.lost);
                    }
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Lanes.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Lanes();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.lanes = v;
                                else
                                    delete m.lanes;
                                continue;
                            }
                        case 2: {
                                if (u === 2) {
                                    if (!(m.lost && m.lost.length))
                                        m.lost = [];
                                    r.uint32s(m.lost);
                                    continue;
                                }
                                if (u !== 0)
                                    break;
                                if (!(m.lost && m.lost.length))
                                    m.lost = [];
                                m.lost.push(r.uint32());
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Lanes;
            })();

            v1.Prewarm = (function() {

                const Prewarm = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Prewarm.prototype.bytes = $util.Long ? $util.Long.fromBits(0,0,true) : 0;
                Prewarm.prototype.inMs = 0;

                Prewarm.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.bytes != null && $Object.hasOwnProperty.call(m, "bytes") && (typeof m.bytes === "object" ? m.bytes.low || m.bytes.high : m.bytes !== 0))
                        w.uint32(8).uint64(m.bytes);
                    if (m.inMs != null && $Object.hasOwnProperty.call(m, "inMs") && m.inMs !== 0)
                        w.uint32(16).uint32(m.inMs);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Prewarm.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Prewarm();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.bytes = v;
                                else
                                    delete m.bytes;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.inMs = v;
                                else
                                    delete m.inMs;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Prewarm;
            })();

            v1.Offer = (function() {

                const Offer = function (p) {
                    this.groups = [];
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Offer.prototype.id = 0;
                Offer.prototype.fetch = 0;
                Offer.prototype.fingerprint = "";
                Offer.prototype.groups = $util.emptyArray;
                Offer.prototype.firstHead = 0;
                Offer.prototype.heads = 0;
                Offer.prototype.chunkBytes = 0;
                Offer.prototype.checksum = false;
                Offer.prototype.ranges = null;
                Offer.prototype.keys = $util.newBuffer([]);
                Offer.prototype.deadlineMs = 0;
                Offer.prototype.trace = "";
                Offer.prototype.layout = $util.newBuffer([]);
                Offer.prototype.generation = 0;
                Offer.prototype.coding = null;

                Offer.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.fetch != null && $Object.hasOwnProperty.call(m, "fetch") && m.fetch !== 0)
                        w.uint32(16).uint32(m.fetch);
                    if (m.fingerprint != null && $Object.hasOwnProperty.call(m, "fingerprint") && m.fingerprint !== "")
                        w.uint32(26).string(m.fingerprint);
                    if (m.groups != null && m.groups.length) {
                        for (var i = 0; i < m.groups.length; ++i)
                            $root.kvferry.peer.v1.GroupTokens.encode(m.groups[i], w.uint32(34).fork(), q + 1).ldelim();
                    }
                    if (m.firstHead != null && $Object.hasOwnProperty.call(m, "firstHead") && m.firstHead !== 0)
                        w.uint32(40).uint32(m.firstHead);
                    if (m.heads != null && $Object.hasOwnProperty.call(m, "heads") && m.heads !== 0)
                        w.uint32(48).uint32(m.heads);
                    if (m.chunkBytes != null && $Object.hasOwnProperty.call(m, "chunkBytes") && m.chunkBytes !== 0)
                        w.uint32(56).uint32(m.chunkBytes);
                    if (m.checksum != null && $Object.hasOwnProperty.call(m, "checksum") && m.checksum !== false)
                        w.uint32(64).bool(m.checksum);
                    if (m.ranges != null && $Object.hasOwnProperty.call(m, "ranges"))
                        $root.kvferry.peer.v1.Ranges.encode(m.ranges, w.uint32(74).fork(), q + 1).ldelim();
                    if (m.keys != null && $Object.hasOwnProperty.call(m, "keys") && m.keys.length)
                        w.uint32(82).bytes(m.keys);
                    if (m.deadlineMs != null && $Object.hasOwnProperty.call(m, "deadlineMs") && m.deadlineMs !== 0)
                        w.uint32(88).uint32(m.deadlineMs);
                    if (m.trace != null && $Object.hasOwnProperty.call(m, "trace") && m.trace !== "")
                        w.uint32(98).string(m.trace);
                    if (m.layout != null && $Object.hasOwnProperty.call(m, "layout") && m.layout.length)
                        w.uint32(106).bytes(m.layout);
                    if (m.generation != null && $Object.hasOwnProperty.call(m, "generation") && m.generation !== 0)
                        w.uint32(112).uint32(m.generation);
                    if (m.coding != null && $Object.hasOwnProperty.call(m, "coding"))
                        $root.kvferry.peer.v1.Coding.encode(m.coding, w.uint32(122).fork(), q + 1).ldelim();
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Offer.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Offer();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.fetch = v;
                                else
                                    delete m.fetch;
                                continue;
                            }
                        case 3: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.fingerprint = v;
                                else
                                    delete m.fingerprint;
                                continue;
                            }
                        case 4: {
                                if (u !== 2)
                                    break;
                                if (!(m.groups && m.groups.length))
                                    m.groups = [];
                                m.groups.push($root.kvferry.peer.v1.GroupTokens.decode(r, r.size(), $undefined, q + 1));
                                continue;
                            }
                        case 5: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.firstHead = v;
                                else
                                    delete m.firstHead;
                                continue;
                            }
                        case 6: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.heads = v;
                                else
                                    delete m.heads;
                                continue;
                            }
                        case 7: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.chunkBytes = v;
                                else
                                    delete m.chunkBytes;
                                continue;
                            }
                        case 8: {
                                if (u !== 0)
                                    break;
                                if (v = r.bool())
                                    m.checksum = v;
                                else
                                    delete m.checksum;
                                continue;
                            }
                        case 9: {
                                if (u !== 2)
                                    break;
                                m.ranges = $root.kvferry.peer.v1.Ranges.decode(r, r.size(), $undefined, q + 1, m.ranges);
                                continue;
                            }
                        case 10: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.keys = v;
                                else
                                    delete m.keys;
                                continue;
                            }
                        case 11: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.deadlineMs = v;
                                else
                                    delete m.deadlineMs;
                                continue;
                            }
                        case 12: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.trace = v;
                                else
                                    delete m.trace;
                                continue;
                            }
                        case 13: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.layout = v;
                                else
                                    delete m.layout;
                                continue;
                            }
                        case 14: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.generation = v;
                                else
                                    delete m.generation;
                                continue;
                            }
                        case 15: {
                                if (u !== 2)
                                    break;
                                m.coding = $root.kvferry.peer.v1.Coding.decode(r, r.size(), $undefined, q + 1, m.coding);
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Offer;
            })();

            v1.Accept = (function() {

                const Accept = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Accept.prototype.id = 0;
                Accept.prototype.grant = $util.Long ? $util.Long.fromBits(0,0,true) : 0;
                Accept.prototype.generation = 0;
                Accept.prototype.committed = $util.newBuffer([]);
                Accept.prototype.layout = $util.newBuffer([]);
                Accept.prototype.order = "";

                Accept.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.grant != null && $Object.hasOwnProperty.call(m, "grant") && (typeof m.grant === "object" ? m.grant.low || m.grant.high : m.grant !== 0))
                        w.uint32(16).uint64(m.grant);
                    if (m.generation != null && $Object.hasOwnProperty.call(m, "generation") && m.generation !== 0)
                        w.uint32(24).uint32(m.generation);
                    if (m.committed != null && $Object.hasOwnProperty.call(m, "committed") && m.committed.length)
                        w.uint32(34).bytes(m.committed);
                    if (m.layout != null && $Object.hasOwnProperty.call(m, "layout") && m.layout.length)
                        w.uint32(42).bytes(m.layout);
                    if (m.order != null && $Object.hasOwnProperty.call(m, "order") && m.order !== "")
                        w.uint32(50).string(m.order);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Accept.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Accept();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.grant = v;
                                else
                                    delete m.grant;
                                continue;
                            }
                        case 3: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.generation = v;
                                else
                                    delete m.generation;
                                continue;
                            }
                        case 4: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.committed = v;
                                else
                                    delete m.committed;
                                continue;
                            }
                        case 5: {
                                if (u !== 2)
                                    break;
                                if ((v = r.bytes()).length)
                                    m.layout = v;
                                else
                                    delete m.layout;
                                continue;
                            }
                        case 6: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.order = v;
                                else
                                    delete m.order;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Accept;
            })();

            v1.Resume = (function() {

                const Resume = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Resume.prototype.id = 0;
                Resume.prototype.grant = $util.Long ? $util.Long.fromBits(0,0,true) : 0;
                Resume.prototype.fromReceiver = false;

                Resume.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.grant != null && $Object.hasOwnProperty.call(m, "grant") && (typeof m.grant === "object" ? m.grant.low || m.grant.high : m.grant !== 0))
                        w.uint32(16).uint64(m.grant);
                    if (m.fromReceiver != null && $Object.hasOwnProperty.call(m, "fromReceiver") && m.fromReceiver !== false)
                        w.uint32(24).bool(m.fromReceiver);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Resume.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Resume();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.grant = v;
                                else
                                    delete m.grant;
                                continue;
                            }
                        case 3: {
                                if (u !== 0)
                                    break;
                                if (v = r.bool())
                                    m.fromReceiver = v;
                                else
                                    delete m.fromReceiver;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Resume;
            })();

            v1.Done = (function() {

                const Done = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Done.prototype.id = 0;
                Done.prototype.grant = $util.Long ? $util.Long.fromBits(0,0,true) : 0;
                Done.prototype.fetch = 0;

                Done.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.grant != null && $Object.hasOwnProperty.call(m, "grant") && (typeof m.grant === "object" ? m.grant.low || m.grant.high : m.grant !== 0))
                        w.uint32(16).uint64(m.grant);
                    if (m.fetch != null && $Object.hasOwnProperty.call(m, "fetch") && m.fetch !== 0)
                        w.uint32(24).uint32(m.fetch);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Done.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Done();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.grant = v;
                                else
                                    delete m.grant;
                                continue;
                            }
                        case 3: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.fetch = v;
                                else
                                    delete m.fetch;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Done;
            })();

            v1.Cancel = (function() {

                const Cancel = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Cancel.prototype.id = 0;
                Cancel.prototype.fetch = 0;
                Cancel.prototype.grant = $util.Long ? $util.Long.fromBits(0,0,true) : 0;
                Cancel.prototype.code = 0;
                Cancel.prototype.detail = "";
                Cancel.prototype.fromReceiver = false;

                Cancel.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.fetch != null && $Object.hasOwnProperty.call(m, "fetch") && m.fetch !== 0)
                        w.uint32(16).uint32(m.fetch);
                    if (m.grant != null && $Object.hasOwnProperty.call(m, "grant") && (typeof m.grant === "object" ? m.grant.low || m.grant.high : m.grant !== 0))
                        w.uint32(24).uint64(m.grant);
                    if (m.code != null && $Object.hasOwnProperty.call(m, "code") && m.code !== 0)
                        w.uint32(32).uint32(m.code);
                    if (m.detail != null && $Object.hasOwnProperty.call(m, "detail") && m.detail !== "")
                        w.uint32(42).string(m.detail);
                    if (m.fromReceiver != null && $Object.hasOwnProperty.call(m, "fromReceiver") && m.fromReceiver !== false)
                        w.uint32(48).bool(m.fromReceiver);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Cancel.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Cancel();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        case 2: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.fetch = v;
                                else
                                    delete m.fetch;
                                continue;
                            }
                        case 3: {
                                if (u !== 0)
                                    break;
                                if (typeof (v = r.uint64()) === "object" ? v.low || v.high : v !== 0)
                                    m.grant = v;
                                else
                                    delete m.grant;
                                continue;
                            }
                        case 4: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.code = v;
                                else
                                    delete m.code;
                                continue;
                            }
                        case 5: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.detail = v;
                                else
                                    delete m.detail;
                                continue;
                            }
                        case 6: {
                                if (u !== 0)
                                    break;
                                if (v = r.bool())
                                    m.fromReceiver = v;
                                else
                                    delete m.fromReceiver;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Cancel;
            })();

            v1.Ping = (function() {

                const Ping = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Ping.prototype.id = 0;

                Ping.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Ping.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Ping();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Ping;
            })();

            v1.Pong = (function() {

                const Pong = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Pong.prototype.id = 0;

                Pong.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.id != null && $Object.hasOwnProperty.call(m, "id") && m.id !== 0)
                        w.uint32(8).uint32(m.id);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Pong.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Pong();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 0)
                                    break;
                                if (v = r.uint32())
                                    m.id = v;
                                else
                                    delete m.id;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Pong;
            })();

            v1.Bye = (function() {

                const Bye = function (p) {
                    if (p)
                        for (var ks = $Object.keys(p), i = 0; i < ks.length; ++i)
                            if (p[ks[i]] != null && ks[i] !== "__proto__")
                                this[ks[i]] = p[ks[i]];
                };

                Bye.prototype.reason = "";

                Bye.encode = function (m, w, q) {
                    if (!w)
                        w = $Writer.create();
                    if (q === $undefined)
                        q = 0;
                    if (q > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (m.reason != null && $Object.hasOwnProperty.call(m, "reason") && m.reason !== "")
                        w.uint32(10).string(m.reason);
                    if (m.$unknowns != null && $Object.hasOwnProperty.call(m, "$unknowns"))
                        for (var i = 0; i < m.$unknowns.length; ++i)
                            w.raw(m.$unknowns[i]);
                    return w;
                };

                Bye.decode = function (r, l, z, q, g) {
                    if (!(r instanceof $Reader))
                        r = $Reader.create(r);
                    if (q === $undefined)
                        q = 0;
                    if (q > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    var c, m, v;
                    if (l === $undefined)
                        c = r.len;
                    else {
                        c = r.pos + l;
                        if (c > r.len)
                            throw $RangeError("index out of range");
                        l = r.len;
                        r.len = c;
                    }
                    m = g || new $root.kvferry.peer.v1.Bye();
                    while (r.pos < c) {
                        var s = r.pos;
                        var t = r.tag();
                        if (t === z) {
                            z = $undefined;
                            break;
                        }
                        var u = t & 7;
                        switch (t >>>= 3) {
                        case 1: {
                                if (u !== 2)
                                    break;
                                if ((v = r.stringVerify()).length)
                                    m.reason = v;
                                else
                                    delete m.reason;
                                continue;
                            }
                        }
                        r.skipType(u, q, t);
                        if (!r.discardUnknown) {
                            $util.makeProp(m, "$unknowns", false);
                            (m.$unknowns || (m.$unknowns = [])).push(r.raw(s, r.pos));
                        }
                    }
                    if (l !== $undefined) {
                        if (r.pos !== c)
                            throw $RangeError("index out of range");
                        r.len = l;
                    }
                    if (z !== $undefined)
                        throw $Error("missing end group");
                    return m;
                };

                return Bye;
            })();

            return v1;
        })();

        return peer;
    })();

    return kvferry;
})();

export {
  $root as default
};
