import { describe, expect, it } from "vitest";
import type { VmbusGuest } from "../../src/vmbus/guest/guest.ts";
import { DeviceType } from "../../src/vmbus/wire/guid.ts";
import { type Message, MessageType } from "../../src/vmbus/wire/messages.ts";
import { connected, goodHost, offer, RINGS, rescind, testGuest } from "./guest-host.ts";

const T = MessageType;
const OLD = goodHost([0x50003]);
const LINUX = { behaviour: "linux-6.12" } as const;
const linux = (offers?: readonly Message[], options = {}) => connected({ ...LINUX, ...options }, offers, {}, OLD);
const relids = (guest: VmbusGuest) => guest.primaries.map(({ relid }) => relid);

describe("the guest as linux-6.12: offers", () => {
	it("lets an offer of a known instance overwrite the channel and map the new relid to it as well", async () => {
		const test = await linux([offer(1)]);
		test.send(offer(9, { instanceId: offer(1).instanceId, interfaceId: DeviceType.Scsi, connectionId: 77 }));
		expect(relids(test.guest)).toEqual([9]);
		expect(test.guest.channels.get(1)).toBe(test.guest.channels.get(9));
		expect(test.take()).toEqual([]);
		test.send(rescind(1));
		expect(test.posts).toEqual([{ type: T.RelidReleased, relid: 9 }]);
		expect(test.guest.primaries).toEqual([]);
	});

	it("cannot suspend after such an offer", async () => {
		const test = await linux([offer(1)]);
		test.send(offer(9, { instanceId: offer(1).instanceId }));
		expect(test.guest.suspend().status).toBe("busy");
	});

	it("opens a channel with a relid beyond the table, which can never be rescinded or signalled", async () => {
		const test = await linux([offer(2048)]);
		expect(test.guest.open(2048, RINGS).status).toBe("ok");
		test.send(rescind(2048));
		test.guest.event(2048);
		expect(test.guest.primaries.length).toBe(1);
		expect(test.take()).toEqual([T.GpadlHeader, T.OpenChannel]);
	});

	it("opens relid 0, whose events are nobody's", async () => {
		const callbacks: number[] = [];
		const test = await connected(LINUX, [offer(0)], { callback: ({ relid }) => void callbacks.push(relid) }, OLD);
		expect(test.guest.open(0, RINGS).status).toBe("ok");
		test.guest.event(0);
		expect(callbacks).toEqual([]);
	});

	it("gives a relid in use to the instance that was offered last", async () => {
		const test = await linux([offer(1), offer(1, { instanceId: offer(5).instanceId })]);
		expect(test.guest.channels.get(1)?.offer.instanceId).toBe(offer(5).instanceId);
		expect(test.guest.primaries.length).toBe(2);
		test.send(rescind(1), rescind(1));
		expect(test.posts).toEqual([{ type: T.RelidReleased, relid: 1 }]);
		expect(test.guest.primaries.length).toBe(1);
	});

	it("takes a sub-channel without its primary for a primary, and offers with any flags", async () => {
		const test = await linux([offer(3, { subChannelIndex: 1 }), offer(4, { flags: 0xdfff })]);
		expect(relids(test.guest)).toEqual([3, 4]);
	});

	it("refuses device types in an isolated VM without a word, but not hvsock", async () => {
		const video = { interfaceId: DeviceType.Video };
		const test = await linux([offer(1, video), offer(2, { ...video, flags: 0x2000 }), offer(3)], { isolation: "snp" });
		expect(relids(test.guest)).toEqual([2, 3]);
		test.send(rescind(1));
		expect(test.take()).toEqual([]);
	});
});

describe("the guest as linux-6.12: rescinds", () => {
	it("wakes the first waiter on the channel; the second still needs the host, and so does the device's removal", async () => {
		const test = await linux([offer(5)]);
		test.guest.open(5, RINGS);
		test.keeps = ({ type }) => type === T.GpadlCreated || type === T.ModifyChannelResponse;
		const gpadl = test.guest.gpadl(5, 3);
		const modify = test.guest.modify(5, 3);
		test.take();
		test.send(rescind(5));
		expect([gpadl.status, modify.status]).toEqual(["rescinded", undefined]);
		expect(test.take()).toEqual([]);
		test.kept.shift();
		test.release();
		expect(modify.status).toBe("ok");
		expect(test.take()).toEqual([T.CloseChannel, T.RelidReleased]);
	});

	it("posts nothing but RELID_RELEASED for a channel rescinded while it was opened", async () => {
		const test = await linux([offer(5)]);
		test.keeps = ({ type }) => type === T.OpenChannelResult;
		const open = test.guest.open(5, RINGS);
		test.take();
		test.send(rescind(5));
		expect(open.status).toBe("rescinded");
		expect(test.take()).toEqual([T.RelidReleased]);
	});

	it("closes an open channel without tearing anything down, and makes the pages private without the host", async () => {
		const test = await linux([offer(5)], { isolation: "snp", paravisor: true });
		test.guest.open(5, RINGS);
		test.guest.gpadl(5, 30).status ?? test.send({ type: T.GpadlCreated, relid: 5, gpadl: 0xe1e11, status: 0 });
		test.take();
		const before = test.sharedPages();
		test.send(rescind(5));
		expect(test.take()).toEqual([T.CloseChannel, T.RelidReleased]);
		expect(before - test.sharedPages()).toBe(34);
	});

	it("does not wake who waits for the ring's TORNDOWN: all other closes, offers and rescinds wait with it", async () => {
		const test = await linux();
		for (const relid of [1, 2]) test.guest.open(relid, RINGS);
		test.keeps = ({ type }) => type === T.GpadlTorndown;
		const [first, second] = [test.guest.close(1), test.guest.close(2)];
		test.send(rescind(1), offer(3));
		expect([first.status, second.status]).toEqual([undefined, undefined]);
		expect(relids(test.guest)).toEqual([1, 2]);
		expect(test.guest.waits.length).toBe(4);
		test.take();
		test.release(1);
		expect(first.status).toBe("ok");
		test.release();
		expect(second.status).toBe("ok");
		expect(relids(test.guest)).toEqual([2, 3]);
		expect(test.take()).toContain(T.RelidReleased);
	});

	it("removes an unopened sub-channel at once and an open one when its primary closes", async () => {
		const sub = { instanceId: offer(1).instanceId };
		const test = await linux([
			offer(1),
			offer(21, { ...sub, subChannelIndex: 1 }),
			offer(22, { ...sub, subChannelIndex: 2 }),
		]);
		for (const relid of [1, 22]) test.guest.open(relid, RINGS);
		test.take();
		test.send(rescind(21));
		expect(test.take()).toEqual([T.RelidReleased]);
		test.send(rescind(22));
		expect(test.take()).toEqual([]);
		expect(test.guest.close(1).status).toBe("ok");
		expect(test.take()).toEqual([T.CloseChannel, T.RelidReleased, T.CloseChannel, T.GpadlTeardown]);
	});
});

describe("the guest as linux-6.12: posts that fail", () => {
	const failing = (type: number) => (message: Message) => (message.type === type ? 5 : 0);

	it("leaves a half-sent GPADL as it is, its handle used up", async () => {
		const test = await linux();
		test.status = failing(T.GpadlBody);
		expect(test.guest.gpadl(1, 60).status).toBe("post-failed");
		expect(test.take()).toEqual([T.GpadlHeader, T.GpadlBody]);
		test.status = () => 0;
		test.guest.gpadl(1, 1);
		expect(test.posts[0]).toMatchObject({ gpadl: 0xe1e11 });
	});

	it("swallows a failed teardown and frees the memory; leaks the rings of a failed close", async () => {
		const test = await linux();
		const { result } = test.guest.gpadl(1, 3);
		const before = test.pages.used;
		test.status = failing(T.GpadlTeardown);
		expect(test.guest.gpadlDown(1, result?.handle ?? 0).status).toBe("ok");
		expect(before - test.pages.used).toBe(3);
		test.guest.open(1, RINGS);
		test.status = failing(T.CloseChannel);
		test.take();
		expect(test.guest.close(1).status).toBe("ok");
		expect(test.take()).toEqual([T.CloseChannel]);
		expect(test.pages.leaked).toBe(4);
	});

	it("tears the ring's GPADL down when OPENCHANNEL fails", async () => {
		const test = await linux();
		test.status = failing(T.OpenChannel);
		expect(test.guest.open(1, RINGS).status).toBe("post-failed");
		expect(test.take()).toEqual([T.GpadlHeader, T.OpenChannel, T.GpadlTeardown]);
	});

	it("waits for the answer to an UNLOAD that was not posted", async () => {
		const test = await linux();
		test.status = failing(T.Unload);
		const unload = test.guest.unload();
		expect(unload.status).toBeUndefined();
		test.send({ type: T.UnloadResponse });
		expect(unload.status).toBe("ok");
	});

	it("goes on to the next version after any failed contact, and sends no UNLOAD when none is left", async () => {
		const test = await testGuest(LINUX);
		const statuses = [5, 6, 18, 120, 2, 3, 4, 8];
		test.status = () => statuses.shift() ?? 0;
		expect(test.guest.connect().status).toBe("no-version");
		expect(test.take()).toEqual(Array(8).fill(T.InitiateContact));
	});
});

describe("the guest as linux-6.12: versions, suspend, and the rest", () => {
	it("gives an isolated VM's too old version up without UNLOAD", async () => {
		const test = await testGuest({ ...LINUX, isolation: "snp" }, {}, goodHost([0x50001]));
		expect(test.guest.connect().status).toBe("version-too-old");
		expect(test.take()).not.toContain(T.Unload);
		expect(test.sharedPages()).toBe(4);
	});

	it("does not look at the connection state of a version that is supported", async () => {
		const test = await testGuest(LINUX, {}, (message) =>
			OLD(message).map((answer) => (answer.type === T.VersionResponse ? { ...answer, connectionState: 1 } : answer)),
		);
		expect(test.guest.connect().status).toBe("ok");
	});

	it("suspends and resumes: relids are new, channels the same", async () => {
		const test = await linux();
		const before = [...test.guest.primaries];
		expect(test.guest.suspend().status).toBe("ok");
		expect(test.take()).toEqual([T.Unload]);
		const resume = test.guest.resume();
		expect(test.take()).toEqual([T.InitiateContact, T.RequestOffers]);
		expect(resume.status).toBeUndefined();
		test.send(offer(7, { instanceId: offer(1).instanceId }), offer(2));
		expect(resume.status).toBe("ok");
		expect([...test.guest.primaries]).toEqual(before);
		expect(relids(test.guest)).toEqual([7, 2]);
		expect(test.guest.open(7, RINGS).status).toBe("ok");
	});

	it("wakes every contact with one version response, for it names none", async () => {
		const test = await linux([]);
		expect(test.guest.suspend().status).toBe("ok");
		test.keeps = ({ type }) => type === T.VersionResponse;
		const resumes = [test.guest.resume(), test.guest.resume()];
		test.take();
		test.release(1);
		expect(resumes.map(({ status }) => status)).toEqual([undefined, undefined]);
		expect(test.take()).toEqual([T.RequestOffers, T.RequestOffers]);
	});

	it("rescinds hvsock channels itself when it suspends, and waits for sub-channels", async () => {
		const sub = offer(21, { instanceId: offer(1).instanceId, subChannelIndex: 1 });
		const test = await linux([offer(1), offer(8, { flags: 0x2000 }), sub]);
		const suspend = test.guest.suspend();
		expect(test.take()).toEqual([T.RelidReleased]);
		test.send(rescind(21));
		expect(suspend.status).toBeUndefined();
		expect(relids(test.guest)).toEqual([1]);
	});

	it("frees channels after UNLOAD when it exits, and still posts their end", async () => {
		const test = await linux();
		test.guest.open(1, RINGS);
		test.take();
		expect(test.guest.exit().status).toBe("ok");
		expect(test.take()).toEqual([T.Unload, T.CloseChannel, T.RelidReleased, T.RelidReleased]);
	});

	it("sets bits instead of signalling where a monitor is allotted, unless the channel is low-latency", async () => {
		const monitored = { monitorId: 70, monitorAllocated: 1 };
		const test = await linux([offer(3, monitored), offer(4, { ...monitored, dedicatedInterrupt: 0 })]);
		test.guest.open(3, RINGS);
		test.guest.open(4, { ...RINGS, lowLatency: true });
		test.guest.send(3, new Uint8Array(8));
		expect(test.bits.map(({ gpa, bit }) => [gpa % 4096, bit])).toEqual([
			[0x800, 3],
			[8 + 8 * 2, 6],
		]);
		expect(test.signals).toEqual([]);
		test.guest.send(4, new Uint8Array(8));
		expect(test.bits.slice(2).map(({ gpa, bit }) => [gpa % 4096, bit])).toEqual([[0x800, 4]]);
		expect(test.signals).toEqual([{ connectionId: 0x2004, flag: 0, path: "direct" }]);
	});

	it("counts the bytes of 8191 pages modulo 65536, and sends them all", async () => {
		const test = await linux();
		test.guest.gpadl(1, 8191);
		expect(test.posts[0]).toMatchObject({ type: T.GpadlHeader, rangeBytes: 0 });
		expect(test.posts.length).toBe(1 + Math.ceil((8191 - 26) / 28));
	});

	it("forgets the rings of a channel that is opened twice", async () => {
		const test = await linux();
		test.guest.open(1, RINGS);
		expect(test.guest.open(1, RINGS).status).toBe("bad-state");
		test.take();
		expect(test.guest.close(1).status).toBe("ok");
		expect(test.take()).toEqual([T.CloseChannel, T.GpadlTeardown]);
	});

	it("says where Linux would call a channel's callback for ever", async () => {
		const stuck: number[] = [];
		const test = await connected(LINUX, [offer(1)], { livelock: ({ relid }) => void stuck.push(relid) }, OLD);
		test.guest.open(1, RINGS);
		const ring = test.guest.channels.get(1)?.ring;
		test.engine.ram.write((ring?.gpa ?? 0) + 2 * 4096, Uint8Array.of(12));
		test.guest.event(1);
		expect(stuck).toEqual([1]);
	});
});
