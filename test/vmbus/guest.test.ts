import { describe, expect, it } from "vitest";
import { RangeState } from "../../src/memory/ram.ts";
import { type Message, MessageType } from "../../src/vmbus/wire/messages.ts";
import { Feature } from "../../src/vmbus/wire/versions.ts";
import { connected, goodHost, offer, RINGS, rescind, type TestGuest, testGuest } from "./guest-host.ts";

const T = MessageType;

/** Nothing is left of a connection. */
function expectNothingLeft(test: TestGuest, leaked = 0): void {
	expect(test.guest.primaries).toEqual([]);
	expect(test.guest.channels.size).toBe(0);
	expect(test.guest.pendingRequests).toBe(0);
	expect(test.guest.waits).toEqual([]);
	test.guest.dispose();
	expect([test.pages.used, test.pages.leaked]).toEqual([0, leaked]);
	if (test.isolated) expect(test.sharedPages()).toBe(0);
}

describe("connecting", () => {
	it("begins with 6.0 on connection id 4 and its own features, and uses the id that the host names", async () => {
		const test = await testGuest({ features: Feature.PauseResume | Feature.ClientId, clientId: offer(1).instanceId });
		expect(test.guest.connect().status).toBe("ok");
		expect(test.posts[0]).toMatchObject({
			version: 0x60000,
			sint: 2,
			vtl: 0,
			featureFlags: Feature.PauseResume | Feature.ClientId,
			clientId: offer(1).instanceId,
		});
		expect(test.ways).toEqual(["4 direct", "1 direct"]);
		expect([test.guest.version, test.guest.features]).toEqual([0x60000, Feature.PauseResume | Feature.ClientId]);
	});

	it("keeps no feature that it did not ask for, and none before 6.0", async () => {
		const generous = (message: Message) =>
			goodHost([0x60000])(message).map((answer) =>
				answer.type === T.VersionResponse ? { ...answer, featureFlags: 0x3f } : answer,
			);
		const test = await testGuest({ features: Feature.ModifyConnection }, {}, generous);
		test.guest.connect();
		expect(test.guest.features).toBe(Feature.ModifyConnection);
		const old = await testGuest({ features: 0xf7 }, {}, goodHost([0x50003], 0xff));
		old.guest.connect();
		expect(old.guest.features).toBe(0);
	});

	it("falls from version to version down to 2.4, by connection id 1 below 5.0", async () => {
		const test = await testGuest({}, {}, goodHost([0x20004]));
		expect(test.guest.connect().status).toBe("ok");
		const contacts = test.posts.filter(({ type }) => type === T.InitiateContact);
		expect(contacts.map((post) => "version" in post && post.version)).toEqual([
			0x60000, 0x50003, 0x50002, 0x50001, 0x50000, 0x40001, 0x40000, 0x30000, 0x20004,
		]);
		expect(test.ways.slice(5)).toEqual(Array(5).fill("1 direct"));
		expect(test.guest.version).toBe(0x20004);
	});

	it("offers an isolated VM's host nothing below 5.2", async () => {
		const test = await testGuest({ isolation: "snp", paravisor: true }, {}, goodHost([0x50001]));
		expect(test.guest.connect().status).toBe("no-version");
		expect(test.take()).toEqual(Array(3).fill(T.InitiateContact));
		expectNothingLeft(test);
	});

	it("does not take a version that the host supports in a failed state", async () => {
		const test = await testGuest({}, {}, (message) =>
			goodHost([0x60000, 0x50003])(message).map((answer) =>
				answer.type === T.VersionResponse && "version" in message && message.version === 0x60000
					? { ...answer, connectionState: 2 }
					: answer,
			),
		);
		expect(test.guest.connect().status).toBe("ok");
		expect(test.guest.version).toBe(0x50003);
	});

	it("tries VTL 2's redirected control plane first", async () => {
		const test = await testGuest({ vtl: 2 });
		test.status = (message) => (message.type === T.InitiateContact && test.ways.at(-1)?.startsWith("800074") ? 18 : 0);
		expect(test.guest.connect().status).toBe("ok");
		expect(test.ways.slice(0, 2)).toEqual(["800074 direct", "4 direct"]);
	});

	it("posts again while the host is short of room, with Linux's delays", async () => {
		const delays: number[] = [];
		const test = await testGuest({}, { delay: (us) => void delays.push(us) });
		let refusals = 12;
		test.status = () => (refusals-- > 0 ? 19 : 0);
		expect(test.guest.connect().status).toBe("ok");
		expect(delays).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000]);
	});

	it("ends when the host does not answer in time, and can be tried again", async () => {
		const test = await testGuest({ isolation: "tdx" });
		test.keeps = ({ type }) => type === T.VersionResponse;
		const connect = test.guest.connect();
		test.clock = 99e9;
		test.guest.tick();
		expect(connect.status).toBeUndefined();
		test.clock = 101e9;
		test.guest.tick();
		expect(connect.status).toBe("timed-out");
		test.keeps = () => false;
		test.release();
		expect(test.guest.state).toBe("disconnected");
		expect(test.guest.connect().status).toBe("ok");
	});

	it("uses the host's monitor pages when they were negotiated and lie in RAM", async () => {
		const features = Feature.ServerSpecifiedMonitorPages;
		const respond = (page: number) => (message: Message) =>
			goodHost(
				[0x60000],
				features,
			)(message).map((answer) =>
				answer.type === T.VersionResponse ? { ...answer, monitorPages: [0, page] as const } : answer,
			);
		const monitored = offer(3, { monitorId: 1, monitorAllocated: 1 });
		for (const [page, used] of [
			[0x3000000, true],
			[0x4000000, false],
			[0x3000008, false],
		] as const) {
			const test = await testGuest({ features }, {}, respond(page));
			test.guest.connect();
			test.send(monitored);
			test.guest.open(3, RINGS);
			test.guest.send(3, new Uint8Array(8));
			expect(test.bits.at(-1)?.gpa === page + 8).toBe(used);
		}
	});
});

describe("channels", () => {
	it("opens, carries packets both ways, and closes", async () => {
		const got: string[] = [];
		const test = await connected({}, [offer(1)], {
			callback: ({ relid }) => {
				for (const packet of test.guest.packets(relid)) got.push(Buffer.from(packet.bytes.subarray(16, 21)).toString());
			},
		});
		expect(test.guest.open(1, { ...RINGS, requests: 4, userData: Uint8Array.of(1, 2, 3) }).status).toBe("ok");
		expect(test.posts[1]).toMatchObject({ relid: 1, openId: 1, downstreamPage: 2, targetVp: 0 });
		expect(test.guest.send(1, Buffer.from("hello"), { wantsCompletion: true, id: 99n })).toBe("ok");
		expect(test.signals).toEqual([{ connectionId: 0x2001, flag: 0, path: "direct" }]);
		const ring = test.guest.channels.get(1)?.ring;
		const incoming = (ring?.gpa ?? 0) + 2 * 4096;
		const packet = Buffer.from("0b000200030000000100000000000000776f726c640000000000000000000000", "hex");
		test.engine.ram.write(incoming + 4096, packet);
		test.engine.ram.write(incoming, Uint8Array.of(32));
		test.guest.event(1);
		expect(got).toEqual(["world"]);
		expect(test.guest.endRequest(1, 1n)).toBe(99n);
		expect(test.guest.endRequest(1, 1n)).toBeNull();
		expect(test.guest.close(1).status).toBe("ok");
		expect(test.take()).toEqual([T.GpadlHeader, T.OpenChannel, T.CloseChannel, T.GpadlTeardown]);
		expect(test.guest.send(1, Buffer.from("x"))).toBe("bad-state");
	});

	it("tells a full ring from a full requestor", async () => {
		const test = await connected();
		test.guest.open(1, { ...RINGS, requests: 1 });
		expect(test.guest.send(1, new Uint8Array(8), { wantsCompletion: true })).toBe("ok");
		expect(test.guest.send(1, new Uint8Array(8), { wantsCompletion: true })).toBe("requestor-full");
		expect(test.guest.send(1, new Uint8Array(4000))).toBe("ok");
		expect(test.guest.send(1, new Uint8Array(100))).toBe("ring-full");
		expect(test.guest.send(1, new Uint8Array(5000))).not.toBe("ok");
	});

	it("leaves a packet that is too long for its reader", async () => {
		const test = await connected();
		test.guest.open(1, RINGS);
		const ring = test.guest.channels.get(1)?.ring;
		test.engine.ram.write((ring?.gpa ?? 0) + 3 * 4096, Buffer.from("06000200040000000500000000000000", "hex"));
		test.engine.ram.write((ring?.gpa ?? 0) + 2 * 4096, Uint8Array.of(40));
		expect(test.guest.receive(1, 15)).toEqual({ status: "too-small", packet: null });
		expect(test.guest.receive(1, 16).packet).toMatchObject({ id: 5n, offset: 16 });
		expect(test.guest.receive(1)).toEqual({ status: "ok", packet: null });
	});

	it("sends GPADLs of any size: 26 page numbers in the header, 28 in each body", async () => {
		const test = await connected();
		test.answers = () => [];
		for (const [pages, bodies] of [
			[1, 0],
			[26, 0],
			[27, 1],
			[54, 1],
			[55, 2],
			[8190, 292],
		] as const) {
			test.guest.gpadl(1, pages);
			const [header, ...rest] = test.posts.splice(0);
			expect(header).toMatchObject({ type: T.GpadlHeader, rangeBytes: 8 + 8 * pages, rangeCount: 1 });
			expect(rest.length).toBe(bodies);
			test.send(rescind(1), offer(1));
			test.take();
		}
		expect(test.guest.gpadl(1, 8191).status).toBe("bad-argument");
	});

	it("tells the host of memory that is the embedder's, which converts and keeps it himself if he likes", async () => {
		const test = await connected({ isolation: "snp", paravisor: true });
		const before = test.sharedPages();
		const gpa = test.pages.alloc(4, "mine");
		const { status, result } = test.guest.gpadl(1, { gpa, pages: 4 });
		expect([status, result?.gpa, test.sharedPages() - before]).toEqual(["ok", gpa, 4]);
		expect(test.guest.gpadlDown(1, result?.handle ?? 0).status).toBe("ok");
		expect(test.sharedPages()).toBe(before);
		const own = test.guest.gpadl(1, { gpa, pages: 4, decrypted: true });
		expect([own.status, test.sharedPages() - before]).toEqual(["ok", 0]);
		test.guest.unload();
		expect([test.pages.used, test.pages.leaked]).toEqual([4, 0]);
		for (const bad of [
			{ gpa: gpa + 8, pages: 1 },
			{ gpa: 2 ** 40, pages: 1 },
			{ gpa, pages: 0 },
		])
			expect((await connected()).guest.gpadl(1, bad).status).toBe("bad-argument");
	});

	it("opens with signal parameters of its own, and takes the host's events by that flag", async () => {
		const callbacks: number[] = [];
		const test = await connected({ features: 3 }, undefined, { callback: ({ relid }) => void callbacks.push(relid) });
		const signal = { connectionId: 0x123, eventFlag: 700 };
		expect(test.guest.open(1, { ...RINGS, signal, redirectInterrupt: true }).status).toBe("ok");
		expect(test.posts[1]).toMatchObject({ connectionId: 0x123, eventFlag: 700, openFlags: 1 });
		test.guest.event(1);
		test.guest.event(700);
		expect(callbacks).toEqual([1]);
		test.guest.send(1, new Uint8Array(8));
		expect(test.signals[0]?.connectionId).toBe(0x123);
		const plain = await connected();
		expect(plain.guest.open(1, { ...RINGS, signal }).status).toBe("unsupported");
	});

	it("moves a channel to another processor, and asks the host only for a change", async () => {
		const test = await connected({ vpIndex: (cpu) => 2 * cpu });
		test.guest.open(1, RINGS);
		test.take();
		expect(test.guest.modify(1, 3).status).toBe("ok");
		expect(test.posts).toEqual([{ type: T.ModifyChannel, relid: 1, targetVp: 6 }]);
		expect(test.guest.modify(1, 3).status).toBe("ok");
		expect(test.guest.modify(1, 4).status).toBe("bad-argument");
		expect(test.guest.modify(2, 1).status).toBe("bad-state");
		test.answers = () => [{ type: T.ModifyChannelResponse, relid: 1, status: 0xc0000001 }];
		expect(test.guest.modify(1, 1).status).toBe("refused");
		expect(test.guest.channels.get(1)?.targetCpu).toBe(3);
	});

	it("spreads channels of fast devices over the processors, siblings first", async () => {
		const sub = { instanceId: offer(1).instanceId };
		const test = await connected({}, [
			offer(1),
			...[1, 2, 3].map((n) => offer(20 + n, { ...sub, subChannelIndex: n })),
			offer(2),
		]);
		expect([1, 21, 22, 23, 2].map((relid) => test.guest.channels.get(relid)?.targetCpu)).toEqual([0, 1, 2, 3, 0]);
	});

	it("gives a processor whose channel is gone to the next", async () => {
		const test = await connected({}, [offer(1), offer(2), offer(3)]);
		test.send(rescind(2), offer(4));
		expect([1, 3, 4].map((relid) => test.guest.channels.get(relid)?.targetCpu)).toEqual([0, 2, 1]);
	});

	it("keeps a processor taken as long as a channel that is spread interrupts it", async () => {
		const cpus = (test: TestGuest, ...relids: number[]) =>
			relids.map((relid) => test.guest.channels.get(relid)?.targetCpu);
		const sub = offer(21, { instanceId: offer(1).instanceId, subChannelIndex: 1 });
		const test = await connected({}, [offer(1), sub, offer(2), offer(3), offer(4)]);
		expect(cpus(test, 1, 21, 2, 3, 4)).toEqual([0, 1, 2, 3, 0]);
		// 4 shares processor 0 with 1, so that its end frees nothing; the end of 2 frees processor 2
		test.send(rescind(4), offer(5), rescind(2), offer(6));
		expect(cpus(test, 5, 6)).toEqual([1, 2]);
		// 5 leaves processor 1, where the sub-channel still is
		test.guest.open(5, RINGS);
		expect(test.guest.modify(5, 3).status).toBe("ok");
		test.send(offer(7));
		expect(cpus(test, 7)).toEqual([0]);
	});

	it("lets a driver open what is offered, sub-channels too", async () => {
		const test = await connected({ driver: () => ({ open: RINGS, subChannels: true }) }, [
			offer(1),
			offer(21, { instanceId: offer(1).instanceId, subChannelIndex: 1 }),
		]);
		expect([1, 21].map((relid) => test.guest.channels.get(relid)?.state)).toEqual(["opened", "opened"]);
		expect(test.guest.unbind(1).status).toBe("ok");
		expect([1, 21].map((relid) => test.guest.channels.get(relid)?.state)).toEqual(["offered", "offered"]);
	});

	it("changes monitor pages, pauses and goes on, where that was negotiated", async () => {
		const test = await connected({ features: Feature.ModifyConnection | Feature.PauseResume });
		expect(test.guest.modifyConnection([0, 0]).status).toBe("ok");
		expect(test.guest.pause().status).toBe("ok");
		expect(test.guest.unpause().status).toBe("ok");
		expect(test.take()).toEqual([T.ModifyConnection, T.Pause, T.Resume]);
		const plain = await connected();
		expect(plain.guest.modifyConnection([0, 0]).status).toBe("unsupported");
		expect(plain.guest.pause().status).toBe("unsupported");
		expect(plain.guest.unpause().status).toBe("unsupported");
	});

	it("takes the whole table of relids", async () => {
		const relids = Array.from({ length: 2047 }, (_, i) => i + 1);
		const test = await connected(
			{},
			relids.map((relid) => offer(relid)),
		);
		expect(test.guest.channels.size).toBe(2047);
		expect(test.guest.unload().status).toBe("ok");
		expectNothingLeft(test);
	});
});

describe("the end", () => {
	for (const isolation of ["none", "vbs", "snp", "tdx"] as const) {
		it(`leaves nothing after unload: ${isolation}`, async () => {
			const test = await connected({ isolation });
			test.guest.open(1, { sendPages: 20, receivePages: 20 });
			test.send({ type: T.GpadlCreated, relid: 1, gpadl: 0xe1e10, status: 0 });
			test.guest.gpadl(1, 5);
			test.guest.open(2, RINGS);
			expect(test.guest.unload().status).toBe("ok");
			expect(test.posts.at(-1)?.type).toBe(T.Unload);
			expectNothingLeft(test);
			expect(test.guest.connect().status).toBe("ok");
		});
	}

	it("ends every wait with the connection", async () => {
		const test = await connected({ isolation: "snp" });
		test.guest.open(2, RINGS);
		test.answers = (message) => (message.type === T.Unload ? [{ type: T.UnloadResponse }] : []);
		const waits = [test.guest.open(1, RINGS), test.guest.modify(2, 3), test.guest.gpadl(2, 3), test.guest.close(2)];
		expect(waits.map(({ status }) => status)).toEqual([undefined, undefined, undefined, undefined]);
		expect(test.guest.unload().status).toBe("ok");
		for (const { status } of waits) expect(status).toBeDefined();
		expectNothingLeft(test);
	});

	it("leaks what a silent host may still use, in a guest whose memory it sees", async () => {
		const test = await connected();
		test.guest.open(1, RINGS);
		test.answers = () => [];
		const unload = test.guest.unload();
		test.clock = 1e12;
		test.guest.tick();
		expect(unload.status).toBe("timed-out");
		expectNothingLeft(test, 4 + 3);
	});

	it("takes the pages of a silent host back in an isolated guest", async () => {
		const test = await connected({ isolation: "snp", paravisor: true });
		test.guest.open(1, RINGS);
		test.answers = () => [];
		const unload = test.guest.unload();
		test.clock = 1e12;
		test.guest.tick();
		expect(unload.status).toBe("timed-out");
		expectNothingLeft(test);
	});

	it("finds the answer to a crash's UNLOAD in a message page", async () => {
		const pages = new Map<number, bigint>();
		const eoms: number[] = [];
		const test = await connected({}, undefined, {
			writeMsr: (cpu, _, msr, value) => {
				if (msr === 0x40000083) pages.set(cpu, value & ~1n);
				return true;
			},
			eom: (cpu) => void eoms.push(cpu),
		});
		test.answers = () => [];
		const crash = test.guest.crash();
		test.guest.pollCrash();
		expect(crash.status).toBeUndefined();
		const slot = new Uint8Array(24);
		slot.set([1, 0, 0, 0, 8, 1]);
		slot[16] = T.UnloadResponse;
		test.engine.ram.write(Number(pages.get(2)) + 512, slot);
		test.guest.interrupt(2);
		expect(crash.status).toBeUndefined();
		test.guest.pollCrash();
		test.guest.pollCrash();
		expect([crash.status, eoms]).toEqual(["ok", [2]]);
	});

	it("keeps its rings' pages shared only while they are in use", async () => {
		const test = await connected({ isolation: "snp", paravisor: true });
		const before = test.sharedPages();
		test.guest.open(1, RINGS);
		const gpa = test.guest.channels.get(1)?.ring?.gpa ?? 0;
		expect(test.engine.ram.rangeState(gpa, 4 * 4096)).toBe(RangeState.Shared);
		expect(test.sharedPages()).toBe(before + 4);
		test.guest.close(1);
		expect(test.engine.ram.rangeState(gpa, 4 * 4096)).toBe(RangeState.Private);
	});
});
