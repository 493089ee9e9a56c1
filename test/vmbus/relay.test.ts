import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { RingPair } from "../../src/ring/pair.ts";
import { EchoDevice } from "../../src/vmbus/devices/echo.ts";
import { type RelayAction, VmbusRelay } from "../../src/vmbus/relay/relay.ts";
import type { ServerAction } from "../../src/vmbus/server/actions.ts";
import { pagesView } from "../../src/vmbus/server/memory-view.ts";
import { VmbusServer } from "../../src/vmbus/server/server.ts";
import { decodeMessage, encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { MessageType as M, type Message } from "../../src/vmbus/wire/messages.ts";
import { Feature, OfferFlag, Version } from "../../src/vmbus/wire/versions.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { completionOf, contact, device, gpadlBody, gpadlHeader, openChannel } from "./server-guest.ts";
import { randomPost } from "./server-history.ts";

printSeed("vmbus relay");
/** Steps of random histories; `npm run fuzz` asks for a million. */
const STEPS = Number(process.env.FUZZ_CASES ?? bySuite({ quick: 1_350, slow: 9_000 }));
const CONFIDENTIAL = OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory;

/** A host, a paravisor with its server and relay, and what the guest receives. Devices answer unless told otherwise. */
class Machine {
	readonly host = new VmbusServer({ vtl: 2, sint: 7 });
	readonly paravisor = new VmbusServer({ confidential: true });
	relay = new VmbusRelay(this.paravisor);
	/** Devices by side and offer; others complete everything. */
	readonly echoes: EchoDevice[] = [];
	readonly hostEchoes: EchoDevice[] = [];
	hostAnswers = true;
	/** Messages to the guest since the last look. */
	inbox: Message[] = [];
	/** Everything else that came out of the relay. */
	out: RelayAction[] = [];
	/** Messages of the host that it keeps while it does not answer. */
	readonly kept: Uint8Array[] = [];
	readonly hostSaw: Message[] = [];

	/** Runs until nothing is left to do. */
	run(actions: readonly RelayAction[]): this {
		const queue = [...actions];
		for (let action = queue.shift(); action !== undefined; action = queue.shift()) {
			if (action.type === "hostPost") {
				this.hostSaw.push(decodeMessage(action.payload) as Message);
				const { status, actions } = this.host.post(action);
				expect(status).toBe(0);
				queue.push(...this.#runHost(actions));
			} else if (action.type === "send") {
				this.inbox.push(decodeMessage(action.payload, { direction: "server" }) as Message);
			} else {
				const completion =
					action.type === "connect"
						? ({ type: "connect", state: 0, relayFeatures: this.relay.features ?? 0xff } as const)
						: this.#deviceOf(this.echoes, action);
				if (completion !== null) queue.push(...this.relay.handle(this.paravisor.complete(completion)));
				else this.out.push(action);
			}
		}
		return this;
	}

	#deviceOf(devices: readonly EchoDevice[], action: RelayAction) {
		if (["hostSignal", "guestEvent", "relaySint", "relayDown", "hostPost"].includes(action.type)) return null;
		for (const echo of devices) {
			const completion = echo.handle(action as ServerAction);
			if (completion !== null) return completion;
		}
		return completionOf(action as ServerAction);
	}

	#runHost(actions: readonly ServerAction[]): RelayAction[] {
		const out: RelayAction[] = [];
		const queue = [...actions];
		for (let action = queue.shift(); action !== undefined; action = queue.shift()) {
			if (action.type === "send") {
				if (this.hostAnswers) out.push(...this.relay.hostMessage(action.payload));
				else this.kept.push(action.payload);
			}
			const completion = this.#deviceOf(this.hostEchoes, action);
			if (completion !== null) queue.push(...this.host.complete(completion));
		}
		return out;
	}

	hostDoes(actions: readonly ServerAction[]): this {
		return this.run(this.#runHost(actions));
	}

	hostOffer(options: Parameters<VmbusServer["offer"]>[0]): number {
		const offered = this.host.offer(options);
		if (typeof offered === "string") throw new Error(offered);
		this.hostDoes(offered.actions);
		return offered.offerId;
	}

	localOffer(options: Parameters<VmbusServer["offer"]>[0]): number {
		const offered = this.paravisor.offer(options);
		if (typeof offered === "string") throw new Error(offered);
		this.run(this.relay.handle(offered.actions));
		return offered.offerId;
	}

	/** The guest posts a message by a plain hypercall. @returns what it receives */
	post(message: Message, connectionId = 1): Message[] {
		this.inbox = [];
		const { status, actions } = this.paravisor.post({ connectionId, payload: encodeMessage(message), trusted: true });
		expect(status).toBe(0);
		this.run(this.relay.handle(actions));
		return this.inbox;
	}

	connect(features: number = Feature.ConfidentialChannels): Message[] {
		this.post(contact(Version.V6_0, features), 4);
		return this.post({ type: M.RequestOffers });
	}
}

/** A machine whose guest is connected: relid 1 is the host's device 1. */
function relayed(): Machine {
	const machine = new Machine();
	machine.hostOffer(device(1));
	machine.run(machine.relay.connect());
	machine.connect();
	return machine;
}
const types = (messages: readonly Message[]) => messages.map(({ type }) => type);

describe("a relay", () => {
	it("offers the host's channels without confidential flags, with relids and connection ids of its own server", () => {
		const machine = new Machine();
		for (const n of [30, 10])
			machine.hostOffer(device(n, { flags: CONFIDENTIAL | 1, mmioMegabytes: n, monitorId: "any" }));
		machine.localOffer(device(20, { flags: CONFIDENTIAL }));
		machine.run(machine.relay.connect());
		machine.hostOffer(device(5, { flags: CONFIDENTIAL }));
		const offers = machine.connect();
		const seen = offers.map((one) =>
			one.type === M.OfferChannel
				? [one.instanceId.slice(-2), one.relid, one.connectionId, one.flags, one.monitorId]
				: [],
		);
		expect(seen).toEqual([
			["05", 1, 0x2001, 0, 255],
			["0a", 2, 0x2002, 1, 255],
			["14", 3, 0x2003, CONFIDENTIAL, 255],
			["1e", 4, 0x2004, 1, 255],
			[],
		]);
		expect([1, 2, 3, 4].map((id) => machine.relay.hostRelid(id))).toEqual([undefined, 1, 2, 3]);
		machine.inbox = [];
		machine.hostOffer(device(40, { flags: CONFIDENTIAL }));
		expect(machine.inbox).toMatchObject([{ type: M.OfferChannel, relid: 5, flags: 0 }]);
		expect(machine.out.filter(({ type }) => type === "relaySint")).toEqual([{ type: "relaySint", sint: 2 }]);
	});

	it("opens the host's channel with the guest's signal parameters, and passes GPADLs of any size on", () => {
		const machine = relayed();
		expect(machine.post(gpadlHeader(1, 0xe1e10, 60))).toEqual([]);
		machine.post(gpadlBody(0xe1e10, 0x100 + 26, 28));
		const created = machine.post(gpadlBody(0xe1e10, 0x100 + 54, 6));
		expect(created).toEqual([{ type: M.GpadlCreated, relid: 1, gpadl: 0xe1e10, status: 0 }]);
		const [gpadl] = machine.host.gpadls(1);
		// packets of devices name it
		expect(gpadl?.gpadl).toBe(0xe1e10);
		expect(gpadl?.ranges).toEqual([
			{ bytes: 60 * 4096, offset: 0, pfns: Array.from({ length: 60 }, (_, i) => 0x100 + i) },
		]);
		const result = machine.post(openChannel(1, 0xe1e10, { openId: 77, targetVp: 3, downstreamPage: 9 }));
		expect(result).toEqual([{ type: M.OpenChannelResult, relid: 1, openId: 77, status: 0 }]);
		expect(machine.hostSaw.at(-1)).toMatchObject({
			connectionId: 0x2001,
			eventFlag: 1,
			downstreamPage: 9,
			targetVp: 3,
		});
		expect(machine.host.channel(1)?.state).toMatchObject({
			name: "Open",
			request: { signal: { connectionId: 0x2001, eventFlag: 1 }, ringGpadl: gpadl?.gpadl },
		});
		expect(machine.post({ type: M.CloseChannel, relid: 1 })).toEqual([]);
		expect(machine.host.channel(1)?.state.name).toBe("Closed");
		expect(machine.post({ type: M.GpadlTeardown, relid: 1, gpadl: 0xe1e10 })).toEqual([
			{ type: M.GpadlTorndown, gpadl: 0xe1e10 },
		]);
		expect(machine.host.gpadls(1)).toEqual([]);
	});

	it("hands on what the host refuses, and refuses an open whose ring the host does not have", () => {
		const machine = relayed();
		machine.hostAnswers = false;
		machine.post(gpadlHeader(1, 7, 2));
		machine.hostAnswers = true;
		const failed = encodeMessage({ type: M.GpadlCreated, relid: 1, gpadl: 7, status: 0x8000ffff });
		machine.run(machine.relay.hostMessage(failed));
		expect(machine.inbox).toEqual([{ type: M.GpadlCreated, relid: 1, gpadl: 7, status: 0x8000ffff }]);
		expect(machine.post(openChannel(1, 7))).toMatchObject([{ type: M.OpenChannelResult, status: 0x8000ffff }]);
		machine.post(gpadlHeader(1, 8, 2));
		machine.hostAnswers = false;
		machine.post(openChannel(1, 8));
		machine.run(
			machine.relay.hostMessage(encodeMessage({ type: M.OpenChannelResult, relid: 1, openId: 1, status: 5 })),
		);
		expect(machine.inbox).toMatchObject([{ type: M.OpenChannelResult, status: 5 }]);
		expect(machine.paravisor.channel(1)?.state.name).toBe("Closed");
	});

	it("moves interrupts at the host and answers when the host has", () => {
		const machine = relayed();
		machine.post(gpadlHeader(1, 7, 2));
		machine.post(openChannel(1, 7, { downstreamPage: 1 }));
		machine.hostAnswers = false;
		expect(machine.post({ type: M.ModifyChannel, relid: 1, targetVp: 5 })).toEqual([]);
		expect(machine.hostSaw.at(-1)).toMatchObject({ type: M.ModifyChannel, targetVp: 5 });
		machine.run(machine.relay.hostMessage(machine.kept.pop() as Uint8Array));
		expect(machine.inbox).toEqual([{ type: M.ModifyChannelResponse, relid: 1, status: 0 }]);
		expect(machine.relay.hostEvent(1)).toEqual([{ type: "guestEvent", vp: 5, eventFlag: 1 }]);
	});

	it("forwards signals both ways while a channel is open, and nothing else", () => {
		const machine = relayed();
		expect([machine.relay.guestSignal(0x2001), machine.relay.hostEvent(1)]).toEqual([[], []]);
		machine.post(gpadlHeader(1, 7, 2));
		machine.post(openChannel(1, 7, { targetVp: 2 }));
		expect(machine.relay.guestSignal(0x2001)).toEqual([{ type: "hostSignal", connectionId: 0x2001 }]);
		expect(machine.relay.guestSignal(0x2002)).toEqual([]);
		expect(machine.relay.hostEvent(1)).toEqual([{ type: "guestEvent", vp: 2, eventFlag: 1 }]);
		expect(machine.relay.hostEvent(2)).toEqual([]);
		machine.post({ type: M.CloseChannel, relid: 1 });
		expect([machine.relay.guestSignal(0x2001), machine.relay.hostEvent(1)]).toEqual([[], []]);
	});

	it("rescinds what the host rescinds, in any state, and lets the host have its relid back", () => {
		const machine = relayed();
		machine.post(gpadlHeader(1, 7, 2));
		machine.hostAnswers = false;
		machine.post(openChannel(1, 7));
		machine.inbox = [];
		machine.hostAnswers = true;
		machine.hostDoes(machine.host.revoke(1));
		expect(machine.inbox).toEqual([{ type: M.RescindChannelOffer, relid: 1 }]);
		expect(machine.hostSaw.at(-1)).toEqual({ type: M.RelidReleased, relid: 1 });
		expect(machine.host.channels).toEqual([]);
		// late answers are nobody's
		for (const late of machine.kept) expect(machine.relay.hostMessage(late)).toEqual([]);
		expect(machine.post({ type: M.GpadlTeardown, relid: 1, gpadl: 7 })).toEqual([{ type: M.GpadlTorndown, gpadl: 7 }]);
		machine.hostOffer(device(1));
		expect(types(machine.post({ type: M.RelidReleased, relid: 1 }))).toEqual([M.OfferChannel]);
		expect(machine.post(gpadlHeader(1, 7, 2))).toMatchObject([{ status: 0 }]);
	});

	it("lets go of sub-channels that the host forgot when it rescinded their primary", () => {
		const machine = relayed();
		for (const subChannelIndex of [1, 2]) machine.hostOffer(device(1, { subChannelIndex }));
		machine.post(gpadlHeader(2, 7, 2));
		machine.post(openChannel(2, 7));
		machine.inbox = [];
		machine.run(machine.relay.hostMessage(encodeMessage({ type: M.RescindChannelOffer, relid: 1 })));
		expect(machine.inbox).toEqual([
			{ type: M.RescindChannelOffer, relid: 2 },
			{ type: M.RescindChannelOffer, relid: 3 },
			{ type: M.RescindChannelOffer, relid: 1 },
		]);
		// only what was open is closed
		expect(machine.hostSaw.slice(-4)).toEqual([
			{ type: M.RelidReleased, relid: 1 },
			{ type: M.CloseChannel, relid: 2 },
			{ type: M.RelidReleased, relid: 2 },
			{ type: M.RelidReleased, relid: 3 },
		]);
	});

	it("lets no channel of the host stand for one of the paravisor, nor for another of the host", () => {
		const machine = relayed();
		machine.localOffer(device(2));
		const offer = (n: number, relid: number): Message => ({
			...(decodeMessage(offerBytes) as Extract<Message, { type: 1 }>),
			instanceId: device(n).instanceId,
			relid,
		});
		const offerBytes = encodeMessage({
			type: M.OfferChannel,
			interfaceId: device(1).interfaceId,
			instanceId: device(1).instanceId,
			flags: 0xffff,
			mmioMegabytes: 0,
			userData: new Uint8Array(120),
			subChannelIndex: 0,
			mmioMegabytesOptional: 0,
			relid: 9,
			monitorId: 1,
			monitorAllocated: 1,
			dedicatedInterrupt: 1,
			connectionId: 0xffffffff,
		});
		for (const n of [1, 2]) {
			const [released] = machine.relay.hostMessage(encodeMessage(offer(n, 9)));
			expect(released?.type === "hostPost" ? decodeMessage(released.payload) : null).toEqual({
				type: M.RelidReleased,
				relid: 9,
			});
		}
		for (const relid of [0, 1, 2048, 0xffffffff])
			expect(machine.relay.hostMessage(encodeMessage(offer(50, relid)))).toEqual([]);
		const sent = machine.relay.hostMessage(encodeMessage(offer(50, 2047)));
		expect(sent.map(({ type }) => type)).toEqual(["send"]);
	});

	it("says so when the host is too old, or lacks one of the features that OpenVMM's relay requires", () => {
		const needed = [
			Feature.GuestSpecifiedSignalParameters,
			Feature.ChannelInterruptRedirection,
			Feature.ModifyConnection,
		];
		const lacking = needed.map(
			(feature) => [{ features: 0x6f & ~feature, vtl: 2, sint: 7 }, "missing-features"] as const,
		);
		for (const [config, reason] of [
			[{ versions: [Version.V5_3], vtl: 2, sint: 7 }, "version-refused"] as const,
			...lacking,
		]) {
			const relay = new VmbusRelay(new VmbusServer());
			const host = new VmbusServer(config);
			const [post] = relay.connect();
			expect(relay.connect()).toEqual([]);
			let actions = post?.type === "hostPost" ? host.post(post).actions : [];
			if (actions[0]?.type === "connect") actions = host.complete({ type: "connect", state: 0 });
			const [send] = actions;
			const out = send?.type === "send" ? relay.hostMessage(send.payload) : [];
			expect(out).toEqual([{ type: "relayDown", reason }]);
			expect(relay.features).toBeUndefined();
		}
	});

	it("limits the guest's features to the host's, but for those of the paravisor alone", () => {
		const machine = new Machine();
		machine.run(machine.relay.connect());
		const clientId = device(9).instanceId;
		const [response] = machine.post(contact(Version.V6_0, 0xff, { clientId }), 4);
		expect(response).toMatchObject({ featureFlags: 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20 });
	});

	it("ends what the guest waits for when the host is given up", () => {
		const machine = relayed();
		machine.post(gpadlHeader(1, 7, 2));
		machine.hostAnswers = false;
		expect(machine.post({ type: M.Unload })).toEqual([]);
		machine.run(machine.relay.disconnect());
		expect(types(machine.inbox)).toEqual([M.UnloadResponse]);
		expect(machine.out.at(-1)).toEqual({ type: "relayDown", reason: "disconnected" });
		expect(machine.paravisor.channels).toEqual([]);
	});

	it("carries data beside a confidential channel of the paravisor, each through its own pages", async () => {
		const engine = await Engine.create({ ram: "1M", swiotlb: null, spareBytes: 2 ** 18 });
		const [HOST_RING, OWN_RING] = [0x10_000, 0x20_000];
		engine.ram.convert(HOST_RING, 4 * 4096, PageState.Shared);
		const machine = new Machine();
		const hostId = machine.hostOffer(device(1, { flags: CONFIDENTIAL }));
		const ownId = machine.localOffer(device(2, { flags: CONFIDENTIAL }));
		const [shared, own] = [pagesView(engine, "shared"), pagesView(engine, "private")];
		const signals: string[] = [];
		const echo = (offerId: number, secret: typeof own | null, name: string) =>
			new EchoDevice({ engine, offerId, views: { shared, private: secret }, onSignal: () => signals.push(name) });
		machine.hostEchoes.push(echo(hostId, null, "host"));
		machine.echoes.push(echo(ownId, own, "paravisor"));
		machine.run(machine.relay.connect());
		machine.connect();
		for (const [relid, gpa, [device]] of [
			[1, HOST_RING, machine.hostEchoes],
			[2, OWN_RING, machine.echoes],
		] as const) {
			const pages = [0, 1, 2, 3].map((n) => gpa + n * 4096);
			const { writer, reader } = RingPair.attach(engine, { pages, side: "guest" });
			machine.post(gpadlHeader(relid, 7, 4, gpa / 4096));
			expect(machine.post(openChannel(relid, 7))).toMatchObject([{ type: M.OpenChannelResult, status: 0 }]);
			writer.send(new Uint8Array(100).fill(relid), { id: 3n, wantsCompletion: true });
			expect(device?.service()).toEqual({ packets: 1, more: false, broken: null });
			expect(reader.receive()?.payload.subarray(0, 100)).toEqual(new Uint8Array(100).fill(relid));
		}
		expect(signals).toEqual(["host", "paravisor"]);
	});
});

describe("properties of a relay", () => {
	it("survives any host and any guest, and goes on the same when saved and restored at every step", {
		timeout: 3_600_000,
	}, () => {
		const seen = new Map<string, number>();
		for (let run = 0; run < STEPS / 450; run++) {
			const random = new Random(SEED + run);
			let server = new VmbusServer({ confidential: true });
			let relay = new VmbusRelay(server);
			const twinServer = new VmbusServer({ confidential: true });
			const twin = new VmbusRelay(twinServer);
			const due: ServerAction[] = [];
			const answers: Uint8Array[] = [];
			const both = (step: (relay: VmbusRelay, server: VmbusServer) => readonly RelayAction[]) => {
				const got = step(relay, server);
				expect(step(twin, twinServer)).toEqual(got);
				for (const action of got) {
					const kind =
						action.type === "send" || action.type === "hostPost" ? `${action.type} ${action.payload[0]}` : action.type;
					seen.set(kind, (seen.get(kind) ?? 0) + 1);
					if (action.type === "hostPost") answers.push(...honestAnswer(action.payload).filter(() => !random.oneIn(6)));
					if (action.type === "hostPost")
						expect(decodeMessage(action.payload, { direction: "guest" })).not.toHaveProperty("error");
					else if (action.type === "send")
						expect(decodeMessage(action.payload, { direction: "server" })).not.toHaveProperty("error");
					else if ("offerId" in action || action.type === "connect") due.push(action);
				}
				const copy = (value: unknown) => JSON.parse(JSON.stringify(value));
				server = VmbusServer.restore({ confidential: true }, copy(server.save()));
				relay = VmbusRelay.restore(server, {}, copy(relay.save()));
				expect(copy(relay.save())).toEqual(copy(twin.save()));
				expect(copy(server.save())).toEqual(copy(twinServer.save()));
			};
			both((one, own) => {
				const offered = own.offer(device(4, { flags: CONFIDENTIAL }));
				return [...one.connect(), ...one.handle(typeof offered === "string" ? [] : offered.actions)];
			});
			for (let i = 0; i < 450; i++) {
				const action = due.shift();
				const completion = action === undefined || random.oneIn(9) ? null : completionOf(action);
				if (completion !== null) both((one, own) => one.handle(own.complete(completion)));
				if (random.oneIn(2)) {
					const post = randomPost(random, server);
					both((one, own) => one.handle(own.post(post).actions));
				} else {
					const message = answers.shift() ?? hostMessage(random);
					both((one) => one.hostMessage(message));
				}
				if (random.oneIn(120)) both((one) => [...one.disconnect(), ...one.connect()]);
				const [id, eventFlag] = [random.oneIn(2) ? 9 : 0x2000 + random.below(5), random.below(5)];
				both((one) => [...one.guestSignal(id), ...one.hostEvent(eventFlag)]);
			}
		}
		// the histories are worth something only while they reach what matters
		const posts = [M.OpenChannel, M.CloseChannel, M.GpadlHeader, M.GpadlTeardown, M.RelidReleased];
		const sends = [M.OfferChannel, M.RescindChannelOffer, M.OpenChannelResult, M.GpadlCreated, M.GpadlTorndown];
		const kinds = [...posts.map((type) => `hostPost ${type}`), ...sends.map((type) => `send ${type}`)];
		for (const kind of [...kinds, "hostSignal", "guestEvent"])
			expect(seen.get(kind) ?? 0, kind).toBeGreaterThan(STEPS / 3000);
	});
});

/** What a well-behaved host answers. */
function honestAnswer(payload: Uint8Array): Uint8Array[] {
	const message = decodeMessage(payload) as Message;
	switch (message.type) {
		case M.InitiateContact:
			return [
				encodeMessage({
					type: M.VersionResponse,
					supported: 1,
					connectionState: 0,
					connectionIdOrVersion: 1,
					featureFlags: 0x27,
				}),
			];
		case M.GpadlHeader:
			return [encodeMessage({ type: M.GpadlCreated, relid: message.relid, gpadl: message.gpadl, status: 0 })];
		case M.GpadlTeardown:
			return [encodeMessage({ type: M.GpadlTorndown, gpadl: message.gpadl })];
		case M.OpenChannel: {
			const { relid, openId } = message;
			return [encodeMessage({ type: M.OpenChannelResult, relid, openId, status: 0 })];
		}
		case M.ModifyChannel:
			return [encodeMessage({ type: M.ModifyChannelResponse, relid: message.relid, status: 0 })];
		default:
			return [];
	}
}

function hostMessage(random: Random): Uint8Array {
	const relid = random.between(0, 5);
	const status = random.oneIn(4) ? 1 : 0;
	switch (random.below(10)) {
		case 0:
			return encodeMessage({
				type: M.VersionResponse,
				supported: 1,
				connectionState: random.oneIn(9) ? 1 : 0,
				connectionIdOrVersion: 1,
				featureFlags: random.oneIn(9) ? 0 : 0x27,
			});
		case 1:
		case 2:
			return encodeMessage({
				type: M.OfferChannel,
				interfaceId: device(1).interfaceId,
				instanceId: device(random.between(1, 5)).instanceId,
				flags: random.below(65536),
				mmioMegabytes: 0,
				userData: new Uint8Array(120),
				subChannelIndex: random.below(2),
				mmioMegabytesOptional: 0,
				relid,
				monitorId: 0,
				monitorAllocated: 1,
				dedicatedInterrupt: 1,
				connectionId: 1,
			});
		case 3:
			return encodeMessage({ type: M.RescindChannelOffer, relid });
		case 4:
			return encodeMessage({ type: M.OpenChannelResult, relid, openId: relid, status });
		case 5:
		case 6:
			return encodeMessage({ type: M.GpadlCreated, relid, gpadl: random.between(1, 12), status });
		case 7:
			return encodeMessage({ type: M.GpadlTorndown, gpadl: random.between(1, 12) });
		case 8:
			return encodeMessage({ type: M.ModifyChannelResponse, relid, status });
		default: {
			const payload = random.bytes(random.below(250));
			if (payload.length > 3) payload.set([random.below(32), 0, 0, 0]);
			return payload;
		}
	}
}
