import { describe, expect, it } from "vitest";
import { HvStatus } from "../../src/synic/status.ts";
import { VmbusServer } from "../../src/vmbus/server/server.ts";
import { encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { MessageType as M, MESSAGES, type Message } from "../../src/vmbus/wire/messages.ts";
import { Feature, OfferFlag, Version } from "../../src/vmbus/wire/versions.ts";
import { CONTACT_PORT, contact, device, gpadlHeader, opened, TestGuest, types } from "./server-guest.ts";

const REQUEST: Message = { type: M.RequestOffers };
const UNLOAD: Message = { type: M.Unload };
const ALL_GRANTED = 0x6f;
const PAGES: [number, number] = [0x1000, 0x2000];

/** A guest with an open channel, relid 1, whose device answers late from now on. */
function busy(version: number = Version.V6_0, trusted = false): TestGuest {
	const guest = new TestGuest({ confidential: true });
	guest.offer(device(1));
	guest.connect(version, 0, trusted);
	guest.post(gpadlHeader(1, 7, 4), { trusted });
	guest.eager = false;
	return guest;
}

describe("negotiation", () => {
	it("accepts each of the eleven versions exactly, and no other", () => {
		for (const version of Object.values(Version)) {
			const step = new TestGuest().contact(version);
			const id = version >= Version.V5_0 ? 1 : version;
			expect(step.sent).toMatchObject([{ type: M.VersionResponse, supported: 1, connectionIdOrVersion: id }]);
			const size = encodeMessage(step.sent[0] as Message).length;
			expect(size).toBe(version >= Version.V6_0 ? 20 : 16);
		}
		for (const version of [0, 0x50004, 0x60001, 0xffffffff]) {
			const step = new TestGuest().contact(version);
			expect(step.actions).toHaveLength(1);
			expect(step.sent).toEqual([
				{ type: M.VersionResponse, supported: 0, connectionState: 0, connectionIdOrVersion: 0 },
			]);
		}
	});

	it("speaks only the versions that it is set up with", () => {
		const guest = new TestGuest({ versions: [Version.V2_4, Version.V5_2] });
		expect(guest.contact(Version.V5_3).sent).toMatchObject([{ supported: 0 }]);
		expect(guest.contact(Version.V5_2).sent).toMatchObject([{ supported: 1 }]);
		expect(() => new VmbusServer({ versions: [0x50004] })).toThrow(/versions/);
	});

	it("looks at the SINT from 5.0 and at the VTL from 5.1, on a multiclient port only", () => {
		const guest = new TestGuest();
		const other = guest.contact(Version.V5_0, 0, { sint: 3 });
		expect(other.actions).toMatchObject([{ type: "send", target: { vp: 0, sint: 3 }, queued: false }]);
		expect(other.sent).toMatchObject([{ supported: 0 }]);
		expect(guest.server.connection.name).toBe("Disconnected");
		expect(guest.contact(Version.V5_0, 0, { vtl: 2 }).sent).toMatchObject([{ supported: 1 }]);
		const forwarded = guest.contact(Version.V5_1, 0, { vtl: 2 });
		expect(forwarded.actions).toMatchObject([{ type: "forward", vtl: 2, trusted: false }]);
		const odd = contact(Version.V5_1, 0, { sint: 3, vtl: 2 });
		expect(guest.post(odd, { connectionId: 1 }).sent).toMatchObject([{ supported: 1 }]);
		expect(guest.contact(Version.V5_1, 0, { sint: 77 }).actions).toEqual([]);
	});

	it("sends to the VP that a contact names from 3.0 on", () => {
		const vpOf = (version: number) => {
			const step = new TestGuest().contact(version, 0, { more: { targetVp: 5 } });
			return step.actions.find((action) => action.type === "send")?.target.vp;
		};
		expect([Version.V2_4, Version.V3_0, Version.V6_0, 0xffffff].map(vpOf)).toEqual([0, 5, 5, 5]);
	});

	it("hands the interrupt page on before 2.4 only, and the monitor pages always", () => {
		const requestOf = (version: number) => new TestGuest().contact(version).actions[0];
		const page = (interruptPage: number | null) => ({
			type: "connect",
			request: { interruptPage, monitorPages: PAGES },
		});
		expect(requestOf(Version.V1_1)).toMatchObject(page(0x3000));
		expect(requestOf(Version.V2_4)).toMatchObject(page(null));
		expect(requestOf(Version.V6_0)).toMatchObject(page(null));
	});

	it("refuses a single monitor page: as a failure, or before 2.4, which knows none, as unsupported", () => {
		for (const monitorPages of [
			[0x1000, 0],
			[0, 0x1000],
		]) {
			const refuse = (version: number) => new TestGuest().contact(version, 0, { more: { monitorPages } });
			expect(refuse(Version.V5_3).sent).toMatchObject([{ supported: 1, connectionState: 2 }]);
			const all = { monitorPages, clientId: device(9).instanceId };
			expect(new TestGuest().contact(Version.V6_0, 0xff, { more: all }).sent).toEqual([
				{
					type: M.VersionResponse,
					supported: 1,
					connectionState: 2,
					connectionIdOrVersion: 1,
					featureFlags: ALL_GRANTED & ~Feature.ServerSpecifiedMonitorPages,
				},
			]);
			expect(refuse(Version.V1_1).sent).toMatchObject([{ supported: 0, connectionState: 0 }]);
		}
		const none = new TestGuest().contact(Version.V5_3, 0, { more: { monitorPages: [0, 0] } });
		expect(none.sent).toMatchObject([{ supported: 1, connectionState: 0 }]);
	});

	it("grants what is supported and requested; unknown bits are no error", () => {
		const granted = (features: number, trusted = false, confidential = false) => {
			const guest = new TestGuest({ confidential });
			const more = (features & Feature.ClientId) === 0 ? {} : { clientId: "e6e6e6e6-e6e6-e6e6-e6e6-e6e6e6e6e6e6" };
			return guest.contact(Version.V6_0, features, { trusted, more }).sent;
		};
		expect(granted(0)).toMatchObject([{ featureFlags: 0 }]);
		expect(granted(0xf0000001)).toMatchObject([{ featureFlags: 1 }]);
		// 0x40 without monitor pages of the server is not granted
		expect(granted(0xffffffff)).toMatchObject([{ featureFlags: ALL_GRANTED & ~Feature.ServerSpecifiedMonitorPages }]);
		expect(granted(0x10, true, true)).toMatchObject([{ featureFlags: 0x10 }]);
		expect(granted(0x10, false, true)).toMatchObject([{ featureFlags: 0 }]);
		expect(granted(0x10, true, false)).toMatchObject([{ featureFlags: 0 }]);
		expect(() => new VmbusServer({ features: 0x10 })).toThrow(/confidential/);
	});

	it("takes the host's features into account behind a relay, but for those of its own", () => {
		const server = new VmbusServer({ confidential: true, features: 0xef });
		const payload = encodeMessage(contact(Version.V6_0, 0x97));
		server.post({ connectionId: CONTACT_PORT, payload, trusted: true });
		const guest = new TestGuest();
		const response = guest.step(server.complete({ type: "connect", state: 0, relayFeatures: 0x02 }));
		expect(response.sent).toMatchObject([{ featureFlags: 0x92 }]);
	});

	it("tells the guest why its contact failed behind a relay, and can be contacted again", () => {
		for (const [state, response] of [
			["unsupported", { supported: 0 }],
			[1, { supported: 1, connectionState: 1 }],
		] as const) {
			const server = new VmbusServer();
			server.post({ connectionId: CONTACT_PORT, payload: encodeMessage(contact(Version.V6_0, 0)) });
			const step = new TestGuest().step(server.complete({ type: "connect", state }));
			expect(step.sent).toMatchObject([response]);
			expect(step.actions.at(-1)).toEqual({ type: "disconnected" });
			expect(server.connection.name).toBe("Disconnected");
			expect(server.complete({ type: "connect", state: 0 })).toMatchObject([{ reason: "unexpected-completion" }]);
		}
	});

	it("gives its own monitor pages to a guest that takes them", () => {
		const server = new VmbusServer({ serverMonitorPagesOnly: true });
		const guest = new TestGuest();
		const connect = (features: number) => {
			server.post({ connectionId: CONTACT_PORT, payload: encodeMessage(contact(Version.V6_0, features)) });
			return guest.step(server.complete({ type: "connect", state: 0, monitorPages: [0, 0x9000] })).sent;
		};
		server.offer(device(1, { monitorId: "any" }));
		expect(connect(0x40)).toMatchObject([{ featureFlags: 0x40, monitorPages: [0, 0x9000] }]);
		const offers = () => guest.step(server.post({ connectionId: 1, payload: encodeMessage(REQUEST) }).actions).sent;
		expect(offers()).toMatchObject([{ monitorId: 0, monitorAllocated: 1 }, {}]);
		expect(connect(0)).toMatchObject([{ featureFlags: 0 }]);
		// the guest's own pages are private here
		expect(offers()).toMatchObject([{ monitorId: 255, monitorAllocated: 0 }, {}]);
		server.post({ connectionId: CONTACT_PORT, payload: encodeMessage(contact(Version.V6_0, 0x40)) });
		expect(() => server.complete({ type: "connect", state: 0, monitorPages: [0x8000, 0] })).toThrow(/monitorPages/);
	});

	it("demands the client id that a contact announces", () => {
		const guest = new TestGuest();
		const clientId = "e6e6e6e6-e6e6-e6e6-e6e6-e6e6e6e6e6e6";
		const payload = encodeMessage(contact(Version.V6_0, Feature.ClientId, { clientId }));
		expect(guest.bytes(payload.slice(0, 40), { connectionId: CONTACT_PORT }).rejected).toEqual(["malformed"]);
		expect(guest.bytes(payload, { connectionId: CONTACT_PORT }).actions[0]).toMatchObject({ request: { clientId } });
	});
});

describe("the post's status", () => {
	it("is invalid connection id for a port that is none, and invalid parameter for too long a message", () => {
		const ports = [
			{ connectionId: 1, multiclient: false },
			{ connectionId: 0x800074, multiclient: true },
		];
		const guest = new TestGuest({ ports });
		expect(guest.post(REQUEST, { connectionId: 4 }).status).toBe(HvStatus.INVALID_CONNECTION_ID);
		expect(guest.post(REQUEST, { connectionId: 0x800074 }).status).toBe(HvStatus.SUCCESS);
		expect(guest.bytes(new Uint8Array(241)).status).toBe(HvStatus.INVALID_PARAMETER);
		expect(() => new VmbusServer({ ports, messageConnectionId: 5 })).toThrow(/no port/);
	});

	it("is insufficient buffers while 64 messages wait for the guest's slot", () => {
		const guest = new TestGuest();
		guest.offer(device(1));
		guest.connect();
		guest.server.hold([]);
		let taken = 0;
		while (guest.gpadl(1, taken, 1).status === 0) taken++;
		expect(taken).toBe(64);
		expect(guest.post(REQUEST).status).toBe(HvStatus.INSUFFICIENT_BUFFERS);
		expect(types(guest.step(guest.server.retry()))).toEqual(Array(64).fill(M.GpadlCreated));
		expect(guest.gpadl(1, 1000, 1).status).toBe(0);
	});
});

describe("messages to the guest", () => {
	it("stay in order when the slot was busy", () => {
		const guest = new TestGuest();
		guest.contact(Version.V5_3);
		for (const n of [1, 2, 3]) guest.offer(device(n));
		const { actions } = guest.post(REQUEST);
		const sends = actions.filter((action) => action.type === "send");
		guest.server.hold(sends.slice(1));
		expect(guest.gpadl(1, 5, 1).sent).toEqual([]);
		const later = guest.step(guest.server.retry());
		expect(types(later)).toEqual([M.OfferChannel, M.OfferChannel, M.AllOffersDelivered, M.GpadlCreated]);
		expect(guest.server.waiting).toBe(0);
	});

	it("wait while the guest is paused, and everything but resume, unload and contact is refused", () => {
		const guest = new TestGuest();
		guest.offer(device(1));
		guest.connect(Version.V6_0, Feature.PauseResume);
		expect(types(guest.post({ type: M.Pause }))).toEqual([M.PauseResponse]);
		const closeReserved: Message = { type: M.CloseReservedChannel, relid: 1, targetVp: 0, sint: 2 };
		for (const message of [REQUEST, { type: M.Pause } as Message, gpadlHeader(1, 1, 1), closeReserved])
			expect(guest.post(message).rejected).toEqual(["paused"]);
		guest.offer(device(2));
		expect(guest.server.waiting).toBe(1);
		expect(types(guest.post({ type: M.Resume }))).toEqual([M.OfferChannel]);
		guest.post({ type: M.Pause });
		guest.offer(device(3));
		expect(types(guest.post(UNLOAD))).toEqual([M.OfferChannel, M.UnloadResponse]);
		guest.connect(Version.V6_0, 0);
		expect(guest.post({ type: M.Pause }).rejected).toEqual(["malformed"]);
	});

	it("of a contact that was overtaken do not wait in front of the answer to the next", () => {
		const server = new VmbusServer();
		const post = (message: Message) =>
			server.post({ connectionId: CONTACT_PORT, payload: encodeMessage(message) }).actions;
		server.hold([]);
		post(contact(Version.V6_0, 0));
		post(contact(Version.V5_3, 0));
		server.complete({ type: "connect", state: 0 });
		server.complete({ type: "connect", state: 0 });
		const sent = new TestGuest().step(server.retry()).sent;
		expect(sent).toEqual([{ type: M.VersionResponse, supported: 1, connectionState: 0, connectionIdOrVersion: 1 }]);
	});

	it("that answer an UNLOAD are not for the guest that contacts next", () => {
		const guest = new TestGuest();
		guest.connect();
		guest.server.hold([]);
		guest.post(UNLOAD);
		guest.contact(Version.V6_0);
		expect(types(guest.step(guest.server.retry()))).toEqual([M.VersionResponse]);
	});

	it("of an old connection do not reach a new one", () => {
		const guest = new TestGuest();
		guest.connect(Version.V6_0, Feature.PauseResume);
		guest.post({ type: M.Pause });
		guest.offer(device(3));
		expect(types(guest.contact(Version.V5_3))).toEqual([M.VersionResponse]);
	});
});

describe("trust", () => {
	it("refuses untrusted messages on a trusted connection without a word, contact included", () => {
		const guest = new TestGuest({ confidential: true });
		guest.offer(device(1, { flags: OfferFlag.ConfidentialRingBuffer }));
		guest.connect(Version.V6_0, Feature.ConfidentialChannels, true);
		for (const message of [REQUEST, UNLOAD, contact(Version.V6_0, 0), gpadlHeader(1, 1, 1)]) {
			const step = guest.post(message);
			expect(step.status).toBe(0);
			expect(step.sent).toEqual([]);
			expect(step.rejected).toEqual(["untrusted"]);
		}
		expect(guest.server.connection.name).toBe("Connected");
		expect(types(guest.post(UNLOAD, { trusted: true }))).toEqual([M.UnloadResponse]);
		expect(guest.contact(Version.V6_0).sent).toMatchObject([{ supported: 1 }]);
	});

	it("lasts until the trusted connection has ended", () => {
		const guest = busy(Version.V6_0, true);
		guest.post(UNLOAD, { trusted: true });
		expect(guest.server.connection.name).toBe("Disconnecting");
		expect(guest.post(contact(Version.V6_0, 0)).rejected).toEqual(["untrusted"]);
		expect(types(guest.complete("gpadlTeardown"))).toEqual([M.UnloadResponse]);
	});

	it("begins with a trusted contact that waits for an untrusted connection to end, by itself or by UNLOAD", () => {
		const unloading = busy();
		unloading.post(UNLOAD);
		unloading.post(contact(Version.V6_0, 0), { connectionId: CONTACT_PORT, trusted: true });
		expect(unloading.contact(Version.V5_3).rejected).toEqual(["untrusted"]);
		const guest = busy();
		expect(guest.post(contact(Version.V6_0, 0), { connectionId: CONTACT_PORT, trusted: true }).actions).toMatchObject([
			{ type: "gpadlTeardown" },
		]);
		expect(guest.contact(Version.V5_3).rejected).toEqual(["untrusted"]);
		expect(guest.complete("gpadlTeardown").sent).toMatchObject([{ supported: 1 }]);
		expect(guest.server.connection).toMatchObject({ info: { version: Version.V6_0, trusted: true } });
	});

	it("takes trusted messages on an untrusted connection", () => {
		const guest = new TestGuest({ confidential: true });
		guest.contact(Version.V6_0);
		expect(types(guest.post(REQUEST, { trusted: true }))).toEqual([M.AllOffersDelivered]);
	});
});

describe("confidential channels", () => {
	const flags = OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory;
	/** What a channel is offered and opened as. */
	const pagesOf = (offered: number, version: number, features: number, trusted: boolean) => {
		const guest = new TestGuest({ confidential: true });
		guest.offer(device(1, { flags: offered | OfferFlag.EnumerateDeviceInterface }));
		const [offer] = guest.connect(version, features, trusted).sent;
		guest.post(gpadlHeader(1, 7, 4), { trusted });
		const open = { type: M.OpenChannel, relid: 1, openId: 1, ringGpadl: 7, targetVp: 0, downstreamPage: 2 } as const;
		const action = opened(guest.post({ ...open, userData: new Uint8Array(120) }, { trusted }));
		return [offer?.type === M.OfferChannel ? offer.flags : -1, action.ringPages, action.externalPages];
	};

	it("are offered as such, and use private pages, only when a trusted contact negotiated them", () => {
		const { ConfidentialChannels } = Feature;
		expect(pagesOf(flags, Version.V6_0, ConfidentialChannels, true)).toEqual([7, "private", "private"]);
		expect(pagesOf(2, Version.V6_0, ConfidentialChannels, true)).toEqual([3, "private", "shared"]);
		expect(pagesOf(0, Version.V6_0, ConfidentialChannels, true)).toEqual([1, "shared", "shared"]);
		expect(pagesOf(flags, Version.V6_0, ConfidentialChannels, false)).toEqual([1, "shared", "shared"]);
		expect(pagesOf(flags, Version.V6_0, 0, true)).toEqual([1, "shared", "shared"]);
		expect(pagesOf(flags, Version.V5_3, 0, true)).toEqual([1, "shared", "shared"]);
	});

	it("are pinned only for a guest that knows of pinning", () => {
		const flagsOf = (features: number) => {
			const guest = new TestGuest({ features: 0xef });
			guest.offer(device(1, { flags: OfferFlag.PinnedExternalMemory | OfferFlag.NamedPipeMode }));
			return guest.connect(Version.V6_0, features).sent[0];
		};
		expect(flagsOf(Feature.GpaPinning)).toMatchObject({ flags: 0x18 });
		expect(flagsOf(0)).toMatchObject({ flags: 0x10 });
	});

	it("cannot have confidential memory without confidential rings", () => {
		const server = new VmbusServer({ confidential: true });
		expect(() => server.offer(device(1, { flags: OfferFlag.ConfidentialExternalMemory }))).toThrow(/0x2/);
		expect(() => new VmbusServer({ oldOfferFlags: true })).toThrow(/oldOfferFlags/);
	});

	it("have flags that meant something else to servers before 6.0, which may go on so", () => {
		const guest = new TestGuest({ versions: [Version.V5_3], oldOfferFlags: true });
		guest.offer(device(1, { flags: 4 }));
		expect(guest.connect(Version.V5_3).sent).toMatchObject([{ flags: 4 }, {}]);
	});
});

describe("offers", () => {
	it("come once a connection, sorted, with relids from 1 that stay the same, hot-added ones at once", () => {
		const guest = new TestGuest();
		const other = "0e0b6031-5213-4934-818b-38d90ced39db";
		guest.offer(device(9));
		guest.offer(device(5, { order: 1 }));
		guest.offer(device(3));
		guest.offer(device(7, { interfaceId: other }));
		for (let again = 0; again < 2; again++) {
			const { sent } = guest.connect();
			const list = sent.map((message) =>
				message.type === M.OfferChannel ? [message.relid, message.connectionId, message.instanceId.slice(-1)] : [],
			);
			expect(list).toEqual([[1, 0x2001, "7"], [2, 0x2002, "5"], [3, 0x2003, "3"], [4, 0x2004, "9"], []]);
			expect(guest.post(REQUEST).rejected).toEqual(["offers-already-sent"]);
		}
		const hot = guest.server.offer(device(1));
		expect(typeof hot === "string" ? hot : types(guest.step(hot.actions))).toEqual([M.OfferChannel]);
	});

	it("are refused for a channel that is there, a relid that is taken, and beyond 2047", () => {
		const server = new VmbusServer();
		for (let n = 1; n <= 2046; n++) expect(typeof server.offer(device(n))).toBe("object");
		expect(server.offer(device(17))).toBe("already-offered");
		expect(typeof server.offer(device(3000, { relid: 2047 }))).toBe("object");
		expect(server.offer(device(3001))).toBe("too-many-channels");
		server.revoke(1);
		expect(server.offer(device(3001, { relid: 2047 }))).toBe("relid-taken");
		const guest = new TestGuest();
		for (let n = 1; n <= 2047; n++) guest.offer(device(n));
		const relids = guest.connect().sent.flatMap((message) => (message.type === M.OfferChannel ? [message.relid] : []));
		expect(relids).toEqual(Array.from({ length: 2047 }, (_, i) => i + 1));
		expect(() => server.offer(device(1, { relid: 0 }))).toThrow(/relid/);
		expect(() => server.offer({ interfaceId: "x", instanceId: "y" })).toThrow(/interfaceId/);
	});

	it("never give a free relid that another channel insists on", () => {
		const guest = new TestGuest();
		guest.offer(device(1));
		guest.offer(device(2, { relid: 1, connectionId: 0xabcdef }));
		const { sent } = guest.connect();
		expect(sent).toMatchObject([{ relid: 2 }, { relid: 1, connectionId: 0xabcdef }, {}]);
	});

	it("give monitor ids as asked for", () => {
		const guest = new TestGuest();
		guest.offer(device(1, { monitorId: "any" }));
		guest.offer(device(2, { monitorId: 0 }));
		guest.offer(device(3, { monitorId: "any" }));
		guest.offer(device(4));
		const ids = guest.connect().sent.map((message) => (message.type === M.OfferChannel ? message.monitorId : null));
		expect(ids).toEqual([0, 255, 1, 255, null]);
	});
});

describe("the end of a connection", () => {
	it("by UNLOAD waits for the devices; what the guest still posts is ignored", () => {
		const guest = busy();
		guest.open(1, 7);
		guest.complete("open");
		expect(types(guest.post(UNLOAD))).toEqual([]);
		for (const message of [
			{ type: M.CloseChannel, relid: 1 },
			{ type: M.RelidReleased, relid: 1 },
		] as Message[])
			expect(guest.post(message).actions).toMatchObject([{ reason: "not-connected" }]);
		expect(guest.complete("close").actions).toEqual([]);
		const step = guest.complete("gpadlTeardown");
		expect(step.actions[0]).toEqual({ type: "disconnected" });
		expect(types(step)).toEqual([M.UnloadResponse]);
		expect(guest.post({ type: M.RelidReleased, relid: 1 }).rejected).toEqual(["not-connected"]);
		expect(guest.post(UNLOAD).rejected).toEqual(["not-connected"]);
	});

	it("is not answered in version 0.13, which has no message for it", () => {
		const guest = new TestGuest();
		guest.connect(Version.V0_13);
		expect(guest.post(UNLOAD).actions).toEqual([{ type: "disconnected" }]);
	});

	it("comes with a fresh contact while connected, busy or not", () => {
		const idle = new TestGuest();
		idle.offer(device(1));
		idle.connect(Version.V5_1);
		const step = idle.contact(Version.V5_0);
		expect(step.actions.map(({ type }) => type)).toEqual(["disconnected", "connect", "send"]);
		expect(types(idle.post(REQUEST))).toEqual([M.OfferChannel, M.AllOffersDelivered]);
		const guest = busy();
		expect(guest.contact(Version.V5_2).sent).toEqual([]);
		expect(guest.contact(Version.V5_0).sent).toEqual([]);
		const done = guest.complete("gpadlTeardown");
		expect(done.sent).toMatchObject([{ type: M.VersionResponse, connectionIdOrVersion: 1 }]);
		expect(guest.server.connection).toMatchObject({ name: "Connected", info: { version: Version.V5_0 } });
	});

	it("comes with a contact of an unknown version, too", () => {
		const guest = new TestGuest();
		guest.connect();
		expect(guest.contact(0x70000).sent).toMatchObject([{ supported: 0 }]);
		expect(guest.server.connection.name).toBe("Disconnected");
	});

	it("answers the contact under way first when another, or an unload, comes meanwhile", () => {
		const server = new VmbusServer();
		const guest = new TestGuest();
		const post = (message: Message, connectionId: number) =>
			server.post({ connectionId, payload: encodeMessage(message) }).actions;
		post(contact(Version.V6_0, 0), CONTACT_PORT);
		expect(post(contact(Version.V5_3, 0), CONTACT_PORT)).toEqual([]);
		expect(post(REQUEST, 1)).toMatchObject([{ reason: "not-connected" }]);
		const actions = server.complete({ type: "connect", state: 0 });
		expect(actions.map(({ type }) => type)).toEqual(["send", "disconnected", "connect"]);
		post(UNLOAD, 1);
		expect(types(guest.step(server.complete({ type: "connect", state: 0 })))).toEqual([
			M.VersionResponse,
			M.UnloadResponse,
		]);
		expect(server.connection.name).toBe("Disconnected");
	});

	it("by a reset refuses messages until it is done, and forgets what waits for the guest", () => {
		const guest = busy();
		guest.server.hold([]);
		guest.offer(device(2));
		expect(guest.step(guest.server.reset()).actions.map(({ type }) => type)).toEqual(["gpadlTeardown"]);
		expect(guest.server.reset()).toEqual([]);
		expect(guest.post(contact(Version.V6_0, 0)).rejected).toEqual(["resetting"]);
		const step = guest.complete("gpadlTeardown");
		expect(step.actions.map(({ type }) => type)).toEqual(["disconnected", "resetDone"]);
		expect(guest.server.waiting).toBe(0);
		expect(guest.server.channels.map(({ state, info }) => [state.name, info])).toEqual([
			["ClientReleased", null],
			["ClientReleased", null],
		]);
	});
});

describe("the other messages", () => {
	it("change the monitor pages one request at a time", () => {
		const guest = new TestGuest();
		guest.connect(Version.V6_0, Feature.ModifyConnection);
		const change = (monitorPages: [number, number]) => guest.post({ type: M.ModifyConnection, monitorPages });
		expect(change([0x5000, 0x6000]).actions[0]).toEqual({ type: "modifyConnection", monitorPages: [0x5000, 0x6000] });
		expect(change([0, 0]).sent).toEqual([{ type: M.ModifyConnectionResponse, connectionState: 0 }]);
		expect(change([0x5000, 0]).sent).toEqual([{ type: M.ModifyConnectionResponse, connectionState: 2 }]);
		guest.eager = false;
		change([0x5000, 0x6000]);
		expect(change([0x7000, 0x8000]).sent).toEqual([{ type: M.ModifyConnectionResponse, connectionState: 2 }]);
		expect(guest.complete("modifyConnection").sent).toMatchObject([{ connectionState: 0 }]);
		expect(guest.server.connection).toMatchObject({ info: { monitorPages: [0x5000, 0x6000] } });
		guest.connect(Version.V5_3);
		expect(change([0, 0]).rejected).toEqual(["malformed"]);
	});

	it("leave the server's own monitor pages as they are", () => {
		const server = new VmbusServer();
		const guest = new TestGuest();
		const own = [0x8000, 0x9000] as const;
		guest.step(server.post({ connectionId: 4, payload: encodeMessage(contact(Version.V6_0, 0x44)) }).actions);
		server.complete({ type: "connect", state: 0, monitorPages: own });
		for (const monitorPages of [
			[0x5000, 0x6000],
			[0, 0],
		] as const) {
			const payload = encodeMessage({ type: M.ModifyConnection, monitorPages });
			const step = guest.step(server.post({ connectionId: 1, payload }).actions);
			expect(step).toMatchObject({ sent: [{ connectionState: 2 }], rejected: ["invalid-monitor-pages"] });
			expect(server.connection).toMatchObject({ info: { monitorPages: own, serverMonitorPages: true } });
		}
	});

	it("ask for hvsock channels; only a failure is answered, from 4.1 on", () => {
		const guest = new TestGuest();
		const [endpointId, serviceId] = [device(1).instanceId, device(2).instanceId];
		guest.connect(Version.V5_2);
		const request = { type: M.TlConnectRequest, endpointId, serviceId } as const;
		expect(guest.post(request).actions).toEqual([{ type: "tlConnect", endpointId, serviceId, siloId: null }]);
		const siloId = device(3).instanceId;
		expect(guest.post({ ...request, siloId }).actions).toMatchObject([{ siloId }]);
		expect(guest.step(guest.server.tlConnectFailed(endpointId, serviceId)).sent).toEqual([
			{ type: M.TlConnectResult, endpointId, serviceId, status: 0xc0000236 },
		]);
		guest.connect(Version.V4_0);
		expect(guest.post({ ...request, siloId }).actions).toMatchObject([{ siloId: null }]);
		expect(guest.server.tlConnectFailed(endpointId, serviceId)).toEqual([]);
	});

	it("carry guest-specified signal parameters and redirection only when negotiated", () => {
		const open = (features: number) => {
			const guest = new TestGuest();
			guest.offer(device(1));
			guest.connect(Version.V6_0, features);
			const { connectionId, eventFlag, request } = opened(
				guest.open(1, 7, { connectionId: 0x123456, eventFlag: 77, openFlags: 1 }),
			);
			return [connectionId, eventFlag, request.redirectInterrupt];
		};
		expect(open(0)).toEqual([0x2001, 1, false]);
		expect(open(Feature.GuestSpecifiedSignalParameters)).toEqual([0x123456, 77, false]);
		expect(open(Feature.ChannelInterruptRedirection)).toEqual([0x2001, 1, true]);
	});

	it("are refused when only a server may send them, and when too short or unknown", () => {
		const guest = new TestGuest();
		guest.connect();
		for (const { type, from, bytes } of Object.values(MESSAGES)) {
			const payload = new Uint8Array(bytes);
			payload[0] = type;
			if (from === "server") expect(guest.bytes(payload).rejected).toEqual(["malformed"]);
			else if (bytes > 8) expect(guest.bytes(payload.slice(0, bytes - 1)).rejected).toEqual(["malformed"]);
		}
		expect(guest.bytes(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0)).rejected).toEqual(["malformed"]);
		expect(guest.bytes(new Uint8Array(0)).rejected).toEqual(["malformed"]);
	});
});
