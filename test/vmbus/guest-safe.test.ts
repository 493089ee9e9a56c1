import { describe, expect, it } from "vitest";
import { PageState } from "../../src/memory/ram.ts";
import type { GuestPages } from "../../src/synic/guest-pages.ts";
import type { GuestCommand } from "../../src/vmbus/guest/options.ts";
import { encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { DeviceType } from "../../src/vmbus/wire/guid.ts";
import { type Message, MessageType } from "../../src/vmbus/wire/messages.ts";
import { OfferFlag } from "../../src/vmbus/wire/versions.ts";
import { connected, created, goodHost, offer, RINGS, rescind, type TestGuest, testGuest } from "./guest-host.ts";

const T = MessageType;
const CPUID = { how: "cpuid", eax: 8 } as const;
const PARAVISOR = { isolation: "snp", paravisor: true, sharedGpaBoundary: 2 ** 46 } as const;
const CONFIDENTIAL = { ...PARAVISOR, confidential: CPUID } as const;
const RING_ONLY = OfferFlag.ConfidentialRingBuffer;
const BOTH = OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory;
/** Linux's first handle. */
const FIRST_GPADL = 0xe1e10;
const relids = (test: TestGuest) => [...test.guest.channels.keys()];

describe("the safe guest refuses", () => {
	it.each([
		["an instance that is there already", offer(9, { instanceId: offer(1).instanceId })],
		["a relid in use", offer(1, { instanceId: offer(9).instanceId })],
		["relid 0", offer(0)],
		["a relid beyond the table", offer(2048)],
		["the relid that stands for none", offer(9, { relid: 0xffffffff })],
		["a sub-channel without its primary", offer(9, { subChannelIndex: 1 })],
		[
			"a sub-channel of another type",
			offer(9, { subChannelIndex: 1, instanceId: offer(1).instanceId, interfaceId: DeviceType.Scsi }),
		],
		["confidential flags that were not negotiated", offer(9, { flags: RING_ONLY })],
		["external memory that is confidential when the ring is not", offer(9, { flags: 4 })],
	])("%s", async (_, bad) => {
		const test = await connected({}, [offer(1)]);
		const before = { ...test.guest.channels.get(1)?.offer };
		test.send(bad);
		expect(relids(test)).toEqual([1]);
		expect(test.guest.channels.get(1)?.offer).toEqual(before);
		expect(test.warnings.length).toBe(1);
		expect(test.take()).toEqual([]);
		test.send(rescind(bad.type === T.OfferChannel ? bad.relid : 0), offer(2));
		expect(test.guest.channels.has(2)).toBe(true);
	});

	it("device types that an isolated VM does not allow; the embedder's list counts", async () => {
		const video = offer(1, { interfaceId: DeviceType.Video });
		expect(relids(await connected({ isolation: "snp" }, [video, offer(2)]))).toEqual([2]);
		const allowedInIsolated = [DeviceType.Video];
		expect(relids(await connected({ isolation: "snp", allowedInIsolated }, [video, offer(2)]))).toEqual([1]);
	});

	it("rings without a data page, a second open, and commands without a connection", async () => {
		const test = await connected();
		expect(test.guest.open(1, { sendPages: 1, receivePages: 2 }).status).toBe("bad-argument");
		expect(test.guest.open(1, { sendPages: 4096, receivePages: 4095 }).status).toBe("bad-argument");
		expect(test.guest.open(1, { ...RINGS, userData: new Uint8Array(121) }).status).toBe("bad-argument");
		expect(test.guest.open(3, RINGS).status).toBe("not-found");
		test.guest.open(1, RINGS);
		const used = test.pages.used;
		expect(test.guest.open(1, RINGS).status).toBe("bad-state");
		expect(test.pages.used).toBe(used);
		expect(test.guest.send(1, new Uint8Array(8))).toBe("ok");
		test.guest.unload();
		expect(test.guest.requestOffers().status).toBe("not-connected");
		expect(test.guest.gpadl(1, 1).status).toBe("not-found");
		expect(test.guest.suspend().status).toBe("not-connected");
		expect(test.guest.tlConnect(offer(1).instanceId, offer(2).instanceId).status).toBe("not-connected");
	});

	it("to suspend while a channel is in use", async () => {
		const test = await connected();
		test.guest.open(1, RINGS);
		expect(test.guest.suspend().status).toBe("bad-state");
		test.guest.close(1);
		expect(test.guest.suspend().status).toBe("ok");
		const resume = test.guest.resume();
		test.send(offer(2));
		test.clock = 1e12;
		test.guest.tick();
		expect(resume.status).toBe("timed-out");
		expect(relids(test)).toEqual([2]);
	});
});

describe("the safe guest takes", () => {
	const refused = 0xc0000001;
	it.each<[string, (test: TestGuest) => GuestCommand, Message, Message]>([
		[
			"an open: another relid",
			({ guest }) => guest.open(1, RINGS),
			{ type: T.OpenChannelResult, relid: 2, openId: 1, status: refused },
			{ type: T.OpenChannelResult, relid: 1, openId: 1, status: 0 },
		],
		[
			"an open: another open",
			({ guest }) => guest.open(1, RINGS),
			{ type: T.OpenChannelResult, relid: 1, openId: 2, status: refused },
			{ type: T.OpenChannelResult, relid: 1, openId: 1, status: 0 },
		],
		[
			"a GPADL: another channel",
			({ guest }) => guest.gpadl(1, 1),
			created(2, FIRST_GPADL, refused),
			created(1, FIRST_GPADL),
		],
		[
			"a GPADL: another handle",
			({ guest }) => guest.gpadl(1, 1),
			created(1, FIRST_GPADL + 1, refused),
			created(1, FIRST_GPADL),
		],
		[
			"a teardown: another handle",
			({ guest }) => guest.gpadlDown(1, FIRST_GPADL),
			{ type: T.GpadlTorndown, gpadl: FIRST_GPADL + 1 },
			{ type: T.GpadlTorndown, gpadl: FIRST_GPADL },
		],
		[
			"a move: another channel",
			({ guest }) => guest.modify(1, 3),
			{ type: T.ModifyChannelResponse, relid: 2, status: refused },
			{ type: T.ModifyChannelResponse, relid: 1, status: 0 },
		],
	])("no other answer for that to %s", async (what, ask, other, answer) => {
		const test = await connected();
		if (what.startsWith("a move")) test.guest.open(1, RINGS);
		if (what.startsWith("a teardown")) test.guest.gpadl(1, 1);
		test.keeps = ({ type }) => type === answer.type;
		const command = ask(test);
		test.send(other);
		expect(command.status).toBeUndefined();
		test.send(answer);
		expect(command.status).toBe("ok");
	});

	it("the plain hypercall past a paravisor that isolates nothing", async () => {
		const test = await connected({ paravisor: true }, [offer(1)]);
		test.guest.open(1, RINGS);
		test.guest.send(1, new Uint8Array(8));
		expect(new Set(test.ways.map((way) => way.split(" ")[1]))).toEqual(new Set(["direct"]));
		expect(test.signals).toMatchObject([{ path: "direct" }]);
	});

	it("no monitor id beyond the page: it signals by hypercall", async () => {
		const test = await connected(
			{},
			[127, 128].map((monitorId, i) => offer(i + 1, { monitorId, monitorAllocated: 1 })),
		);
		for (const relid of [1, 2]) {
			test.guest.open(relid, RINGS);
			test.guest.send(relid, new Uint8Array(8));
		}
		expect(test.bits.map(({ bit }) => bit)).toEqual([1, 127 & 31]);
		expect(test.signals).toMatchObject([{ connectionId: 0x2002 }]);
	});

	it("the pages of a buffer back that the host refused", async () => {
		const test = await connected();
		const used = test.pages.used;
		test.answers = (message) => (message.type === T.GpadlHeader ? [created(1, message.gpadl, refused)] : []);
		expect(test.guest.gpadl(1, 3).status).toBe("refused");
		expect([test.pages.used, test.pages.leaked]).toEqual([used, 0]);
	});
});

describe("the safe guest ends", () => {
	it("a suspend when the host rescinds the sub-channels that it waits for", async () => {
		const sub = offer(21, { instanceId: offer(1).instanceId, subChannelIndex: 1 });
		const test = await connected({}, [offer(1), sub]);
		const suspend = test.guest.suspend();
		test.send(offer(3));
		expect(suspend.status).toBeUndefined();
		test.send(rescind(21));
		expect(suspend.status).toBe("ok");
		expect(test.take()).toEqual([T.RelidReleased, T.Unload]);
	});

	it("a wait that the host does not answer, and does not trust the channel after", async () => {
		const test = await connected();
		test.keeps = ({ type }) => type === T.OpenChannelResult;
		const open = test.guest.open(1, RINGS);
		test.take();
		test.clock = 101e9;
		test.guest.tick();
		expect(open.status).toBe("timed-out");
		expect(test.take()).toEqual([T.CloseChannel, T.GpadlTeardown]);
		test.release();
		expect(test.guest.open(1, RINGS).status).toBe("bad-state");
		test.send(rescind(1));
		expect(test.take()).toEqual([T.RelidReleased]);
	});

	it("every wait on a rescinded channel, the ring's TORNDOWN too", async () => {
		const test = await connected();
		test.guest.open(1, RINGS);
		test.guest.open(2, RINGS);
		test.answers = () => [];
		const waits = [test.guest.gpadl(1, 3), test.guest.modify(1, 3), test.guest.close(2)];
		test.send(rescind(1), rescind(2));
		expect(waits.map(({ status }) => status)).toEqual(["rescinded", "rescinded", "ok"]);
		expect(relids(test)).toEqual([]);
		expect(test.guest.waits).toEqual([]);
	});

	it("no channel's close at the cost of the others", async () => {
		const test = await connected();
		for (const relid of [1, 2]) test.guest.open(relid, RINGS);
		test.keeps = (message) => message.type === T.GpadlTorndown && test.kept.length === 0;
		const stuck = test.guest.close(1);
		expect(test.guest.close(2).status).toBe("ok");
		test.send(offer(3), rescind(2));
		expect(relids(test)).toEqual([1, 3]);
		test.release();
		expect(stuck.status).toBe("ok");
	});

	it("a broken ring: it reads no more, and says why", async () => {
		const test = await connected();
		for (const [relid, packet] of [
			[1, "0600020000000000"],
			[2, "06000200ffff0000"],
		] as const) {
			test.guest.open(relid, RINGS);
			const gpa = test.guest.channels.get(relid)?.ring?.gpa ?? 0;
			test.engine.ram.write(gpa + 3 * 4096, Buffer.from(packet, "hex"));
			test.engine.ram.write(gpa + 2 * 4096, Uint8Array.of(32));
			expect(test.guest.receive(relid).status).toBe("ring-corrupt");
			expect(test.guest.packets(relid).next()).toEqual({ done: true, value: "ring-corrupt" });
			expect(test.guest.close(relid).status).toBe("ok");
		}
	});

	it("an index beyond the ring on either side", async () => {
		const test = await connected();
		test.guest.open(1, RINGS);
		const gpa = test.guest.channels.get(1)?.ring?.gpa ?? 0;
		test.engine.ram.write(gpa + 2 * 4096, Uint8Array.of(0, 0x20));
		expect(test.guest.receive(1).status).toBe("ring-corrupt");
		test.engine.ram.write(gpa + 4, Uint8Array.of(0, 0x10));
		expect(test.guest.send(1, new Uint8Array(8))).toBe("ring-corrupt");
	});

	it("a flood of offers and rescinds: what waits is bounded", async () => {
		const test = await connected({ driver: () => ({ open: RINGS }) }, []);
		test.keeps = ({ type }) => type === T.OpenChannelResult;
		test.send(offer(1));
		for (let i = 0; i < 10_000; i++) test.send(rescind(1), offer(1));
		expect(test.guest.waits.length).toBeLessThan(10);
		expect(test.guest.unload().status).toBe("ok");
		expect(test.guest.waits).toEqual([]);
	});

	it("leaves memory to a host that was told half of it", async () => {
		const test = await connected();
		test.status = ({ type }) => (type === T.GpadlBody ? 5 : 0);
		expect(test.guest.gpadl(1, 60).status).toBe("post-failed");
		expect(test.pages.leaked).toBe(60);
		test.status = ({ type }) => (type === T.GpadlTeardown ? 5 : 0);
		const { result } = test.guest.gpadl(1, 3);
		expect(test.guest.gpadlDown(1, result?.handle ?? 0).status).toBe("post-failed");
		expect(test.pages.leaked).toBe(63);
	});
});

describe("page transitions", () => {
	/** Pages whose nth conversion fails. */
	function failing(test: TestGuest, verb: "decrypt" | "encrypt", pages: number): GuestPages {
		return {
			alloc: (n, purpose) => test.pages.alloc(n, purpose),
			free: (gpa, n) => test.pages.free(gpa, n),
			leak: (gpa, n) => test.pages.leak(gpa, n),
			decrypt: (gpa, n) => !(verb === "decrypt" && n === pages) && test.pages.decrypt(gpa, n),
			encrypt: (gpa, n) => !(verb === "encrypt" && n === pages) && test.pages.encrypt(gpa, n),
		};
	}

	async function isolated(verb: "decrypt" | "encrypt", pages: number, answers?: (message: Message) => Message[]) {
		const holder: { test?: TestGuest } = {};
		const lazy = new Proxy({} as GuestPages, {
			get: (_, name: keyof GuestPages) => failing(holder.test as TestGuest, verb, pages)[name],
		});
		holder.test = await testGuest({ ...PARAVISOR, pages: lazy }, {}, answers);
		return holder.test;
	}

	it.each([
		["decrypt", "conversion-failed"],
		["encrypt", "ok"],
	] as const)("leaks both monitor pages when they fail to %s", async (verb, status) => {
		const test = await isolated(verb, 1);
		expect(test.guest.connect().status).toBe(status);
		if (status === "ok") test.guest.unload();
		expect([test.pages.leaked, test.pages.used]).toEqual([2, 0]);
		expect(test.engine.ram.pagesInState(PageState.Leaked)).toBe(2);
	});

	it.each([
		["decrypt", "conversion-failed", 0],
		["encrypt", "ok", 2],
	] as const)("leaks a ring that fails to %s", async (verb, status, posts) => {
		const test = await isolated(verb, 4);
		test.guest.connect();
		test.send(offer(1));
		test.take();
		expect(test.guest.open(1, RINGS).status).toBe(status);
		expect(test.take().length).toBe(posts);
		if (status === "ok") expect(test.guest.close(1).status).toBe("ok");
		expect(test.pages.leaked).toBe(4);
	});

	it("leaks a buffer that the host refused and that does not become private again", async () => {
		const test = await isolated("encrypt", 7);
		test.guest.connect();
		test.send(offer(1));
		test.answers = (message) => (message.type === T.GpadlHeader ? [created(1, message.gpadl, 5)] : []);
		expect(test.guest.gpadl(1, 7).status).toBe("refused");
		expect(test.pages.leaked).toBe(7);
		expect(test.guest.gpadl(1, 6).status).toBe("refused");
		expect(test.pages.leaked).toBe(7);
	});

	it("shares SynIC pages and hypercall inputs only where no paravisor stands between", async () => {
		const alone = await testGuest({ isolation: "snp" });
		expect(alone.sharedPages()).toBe(4);
		alone.guest.connect();
		expect(alone.sharedPages()).toBe(4 + 8 + 2);
		const tdx = await testGuest({ isolation: "tdx", paravisor: true });
		tdx.guest.connect();
		expect(tdx.sharedPages()).toBe(4 + 2);
		const vbs = await testGuest({ isolation: "vbs" });
		vbs.guest.connect();
		expect(vbs.sharedPages()).toBe(2);
	});
});

describe("Confidential VMBus", () => {
	it("is found by CPUID: the paravisor's SynIC is the guest's, its pages stay private, posts are plain", async () => {
		const writes: string[] = [];
		const test = await testGuest(CONFIDENTIAL, {
			writeMsr: (cpu, party, msr, value) => {
				if (cpu === 0) writes.push(`${party} ${(msr - 0x40000000).toString(16)} ${(value & 0x1fffffn).toString(16)}`);
				return true;
			},
		});
		expect(test.guest.connect().status).toBe("ok");
		expect(test.guest.isConfidential).toBe(true);
		expect(test.posts[0]).toMatchObject({ featureFlags: 0x10 });
		expect(test.ways[0]).toBe("4 direct");
		expect(test.sharedPages()).toBe(2);
		expect(writes.map((write) => write.split(" ").slice(0, 2).join(" "))).toEqual([
			"paravisor 83",
			"paravisor 82",
			"hypervisor 83",
			"hypervisor 82",
			"hypervisor 92",
			"paravisor 92",
			"paravisor 80",
		]);
		expect(writes[5]).toBe("paravisor 92 200f3");
	});

	it("takes messages from the paravisor's page only, and events from both", async () => {
		const pages: Record<string, number> = {};
		const callbacks: number[] = [];
		const test = await connected(CONFIDENTIAL, [offer(1)], {
			readMsr: (_, __, msr) => BigInt(msr === 0x40000083 ? 0x3f00000 : 0x3f01000),
			writeMsr: (cpu, party, msr, value) => {
				if (cpu === 0 && (value & 1n) !== 0n) pages[`${party} ${msr - 0x40000080}`] = Number(value & ~0xfffn);
				return true;
			},
			callback: ({ relid }) => void callbacks.push(relid),
		});
		// the host's pages are shared, or they are not looked at
		test.engine.ram.convert(0x3f00000, 8192, PageState.Shared);
		test.guest.open(1, RINGS);
		const put = (page: string, message: Message) => {
			const payload = encodeMessage(message);
			test.engine.ram.write((pages[page] ?? 0) + 512, Uint8Array.from([1, 0, 0, 0, payload.length]));
			test.engine.ram.write((pages[page] ?? 0) + 528, payload);
			test.guest.interrupt(0);
		};
		put("hypervisor 3", offer(2));
		put("paravisor 3", offer(3));
		expect(relids(test)).toEqual([1, 3]);
		for (const page of ["hypervisor 2", "paravisor 2"]) {
			test.engine.ram.write((pages[page] ?? 0) + 512, Uint8Array.of(2));
			test.guest.interrupt(0);
		}
		expect(callbacks).toEqual([1, 1]);
	});

	it("mirrors the interrupt with the proxy bit, and posts past the paravisor, when it is not confidential", async () => {
		const writes: string[] = [];
		const test = await testGuest(
			{ ...PARAVISOR, confidential: { how: "cpuid", eax: 7 } },
			{
				writeMsr: (_, party, msr, value) => {
					if (msr === 0x40000092) writes.push(`${party} ${value.toString(16)}`);
					return true;
				},
			},
		);
		test.guest.connect();
		expect(test.guest.isConfidential).toBe(false);
		expect(test.ways[0]).toBe("4 ghcb");
		expect(writes.slice(0, 2)).toEqual(["hypervisor 200f3", "paravisor 1200f3"]);
	});

	it.each([
		["neither", 0, 4 + 3],
		["the ring alone", RING_ONLY, 3],
		["ring and external memory", BOTH, 0],
	])("keeps %s private as the offer says; signals go to the host all the same", async (_, flags, shared) => {
		const test = await connected(CONFIDENTIAL, [offer(1, { flags })]);
		const before = test.sharedPages();
		expect(test.guest.open(1, RINGS).status).toBe("ok");
		expect(test.guest.gpadl(1, 3).status).toBe("ok");
		expect(test.sharedPages() - before).toBe(shared);
		test.guest.send(1, new Uint8Array(8));
		expect(test.signals[0]?.path).toBe("ghcb");
		test.guest.unload();
		expect(test.sharedPages()).toBe(0);
		expect(test.pages.leaked).toBe(0);
	});

	it.each([
		["external memory without the ring", { flags: 4 }, CONFIDENTIAL, undefined],
		["flags before 6.0", { flags: RING_ONLY }, CONFIDENTIAL, goodHost([0x50003], 0x10)],
		["flags that the server did not grant", { flags: RING_ONLY }, CONFIDENTIAL, goodHost([0x60000], 0)],
		["flags without confidential connection", { flags: RING_ONLY }, PARAVISOR, undefined],
	])("refuses offers of %s", async (_, more, options, answers) => {
		const test = await connected(options, [offer(1, more), offer(2)], {}, answers);
		expect(relids(test)).toEqual([2]);
		test.send(rescind(2));
		expect(relids(test)).toEqual([]);
	});

	it("keeps what was latched when the channel was offered", async () => {
		const test = await connected(CONFIDENTIAL, [offer(1, { flags: RING_ONLY })]);
		test.guest.suspend();
		const resume = test.guest.resume();
		test.send(offer(7, { instanceId: offer(1).instanceId }));
		expect(resume.status).toBe("ok");
		const before = test.sharedPages();
		test.guest.open(7, RINGS);
		expect(test.sharedPages()).toBe(before);
	});

	describe("by trying first", () => {
		const TRY = { ...PARAVISOR, confidential: { how: "try-then-fallback" } } as const;

		it("stays confidential when that works", async () => {
			const test = await testGuest(TRY);
			expect(test.guest.connect().status).toBe("ok");
			expect(test.guest.isConfidential).toBe(true);
			expect(new Set(test.ways)).toEqual(new Set(["4 direct", "1 direct"]));
		});

		it.each(["no answer to a contact", "no paravisor's SynIC"])("begins anew past the paravisor: %s", async (why) => {
			const test = await testGuest(
				{ ...TRY, isolation: "tdx" },
				{
					writeMsr: (_, party, msr) => !(why.includes("SynIC") && party === "paravisor" && msr === 0x40000083),
				},
			);
			test.status = () => (test.ways.at(-1)?.endsWith("direct") ? 18 : 0);
			const before = test.pages.used;
			expect(test.guest.connect().status).toBe("ok");
			expect(test.guest.isConfidential).toBe(false);
			expect(test.warnings.some((text) => text.includes("trying without"))).toBe(true);
			expect(test.ways.at(-1)).toBe("1 tdcall");
			const contacts = test.posts.filter(({ type }) => type === T.InitiateContact);
			expect(contacts.at(-1)).toMatchObject({ version: 0x60000, featureFlags: 0 });
			// four post pages, an interrupt page and two monitor pages: nothing of the first attempt
			expect([test.pages.used - before, test.pages.leaked, test.sharedPages()]).toEqual([7, 0, 6]);
			test.guest.unload();
			expect([test.pages.used, test.sharedPages()]).toEqual([0, 0]);
		});

		it("is not tried without hardware isolation or paravisor", async () => {
			for (const options of [{ isolation: "vbs" as const }, { paravisor: false }]) {
				const test = await testGuest({ ...TRY, ...options }, {}, goodHost([0x60000], 0x10));
				test.guest.connect();
				expect(test.guest.isConfidential).toBe(false);
			}
		});
	});
});
