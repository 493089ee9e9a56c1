/** The guest side and the server side against each other, with echo devices between: what each believes must agree. */
import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { EchoDevice } from "../../src/vmbus/devices/echo.ts";
import type { GuestChannel } from "../../src/vmbus/guest/channel.ts";
import { VmbusGuest } from "../../src/vmbus/guest/guest.ts";
import type { GuestCommand } from "../../src/vmbus/guest/options.ts";
import type { ServerAction, ServerCompletion } from "../../src/vmbus/server/actions.ts";
import { pagesView } from "../../src/vmbus/server/memory-view.ts";
import { VmbusServer } from "../../src/vmbus/server/server.ts";
import { DeviceType } from "../../src/vmbus/wire/guid.ts";
import { OfferFlag } from "../../src/vmbus/wire/versions.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { completionOf, device } from "./server-guest.ts";

printSeed("vmbus both sides");
/** CPUID 0x40000082 EAX bit 3. */
const CONFIDENTIAL_EAX = 8;

class Both {
	readonly engine: Engine;
	readonly guest: VmbusGuest;
	readonly server = new VmbusServer({ confidential: true });
	readonly channels = new Map<number, GuestChannel>();
	readonly #devices = new Map<number, EchoDevice>();
	/** What is under way: messages to the guest, what devices owe, signals. */
	readonly #inbox: Uint8Array[] = [];
	readonly #due: ServerCompletion[] = [];
	readonly #signals: (() => void)[] = [];
	readonly commands: GuestCommand[] = [];
	rejected: string[] = [];
	/** Payloads that came back, by relid. */
	readonly echoed: { relid: number; payload: Uint8Array }[] = [];

	constructor(engine: Engine, isConfidential: boolean) {
		this.engine = engine;
		this.guest = new VmbusGuest({
			engine,
			cpus: 4,
			isolation: "snp",
			paravisor: true,
			confidential: { how: "cpuid", eax: isConfidential ? CONFIDENTIAL_EAX : 0 },
			ports: {
				post: (connectionId, _, payload, path) => {
					// with a paravisor a plain hypercall traps to it; the host sees the others
					const { status, actions } = this.server.post({ connectionId, payload, trusted: path === "direct" });
					this.#serve(actions);
					return status;
				},
				signal: (connectionId) => {
					const found = this.server.channels.find(({ info }) => info?.connectionId === connectionId);
					if (found !== undefined) this.#signals.push(() => this.#service(found.offerId));
				},
				channelAdded: (channel) => void this.channels.set(channel.relid, channel),
				channelRemoved: (channel) => {
					if (this.channels.get(channel.relid) === channel) this.channels.delete(channel.relid);
				},
				callback: (channel) => {
					for (const { bytes, offset } of this.guest.packets(channel.relid))
						this.echoed.push({ relid: channel.relid, payload: bytes.slice(offset) });
				},
			},
		});
	}

	get sharedPages(): number {
		return this.engine.ram.pagesInState(PageState.Shared);
	}

	#service(offerId: number): void {
		const turn = this.#devices.get(offerId)?.service();
		expect(turn?.broken ?? null).toBeNull();
		if (turn?.more) this.#signals.push(() => this.#service(offerId));
	}

	#serve(actions: readonly ServerAction[]): void {
		for (const action of actions) {
			if (action.type === "send") this.#inbox.push(action.payload);
			else if (action.type === "rejected") this.rejected.push(action.reason);
			else {
				const echo = "offerId" in action ? this.#devices.get(action.offerId) : undefined;
				const completion = echo === undefined ? completionOf(action) : echo.handle(action);
				if (completion !== null) this.#due.push(completion);
			}
		}
	}

	offer(n: number, flags: number, subChannelIndex = 0): number | null {
		const offered = this.server.offer(device(n, { interfaceId: DeviceType.Network, flags, subChannelIndex }));
		if (typeof offered === "string") return null;
		const { offerId, actions } = offered;
		const { engine } = this;
		const views = { shared: pagesView(engine, "shared"), private: pagesView(engine, "private") };
		const onSignal = () => {
			const relid = this.server.channel(offerId)?.info?.relid;
			if (relid !== undefined) this.#signals.push(() => this.guest.event(relid));
		};
		this.#devices.set(offerId, new EchoDevice({ engine, offerId, views, onSignal }));
		this.#serve(actions);
		return offerId;
	}

	revoke(offerId: number): void {
		this.#devices.get(offerId)?.revoked();
		this.#serve(this.server.revoke(offerId));
	}

	do(command: GuestCommand): GuestCommand {
		this.commands.push(command);
		return command;
	}

	/** One thing that is under way happens; messages and signals stay in order. @returns whether there was one */
	step(random: Random | null): boolean {
		const ready = [this.#inbox, this.#due, this.#signals].filter((list) => list.length > 0);
		if (ready.length === 0) return false;
		const list = random === null ? ready[0] : random.pick(ready);
		if (list === this.#inbox) this.guest.message(this.#inbox.shift() as Uint8Array);
		else if (list === this.#signals) this.#signals.shift()?.();
		else {
			const [completion] = this.#due.splice(random === null ? 0 : random.below(this.#due.length), 1);
			this.#serve(this.server.complete(completion as ServerCompletion));
		}
		return true;
	}

	settle(): void {
		for (let i = 0; this.step(null); i++) expect(i).toBeLessThan(100_000);
	}

	/** Nothing is under way: both sides believe the same. */
	check(): void {
		expect(this.commands.filter(({ status }) => status === undefined).map(({ name, relid }) => [name, relid])).toEqual(
			[],
		);
		const known = this.server.channels.filter(({ info }) => info !== null);
		const relids = known.map(({ info }) => info?.relid);
		expect([...this.channels.keys()].sort()).toEqual(relids.sort());
		for (const { offerId, info, state } of known) {
			const mine = this.channels.get(info?.relid ?? 0);
			expect([info?.relid, state.name, mine?.rescinded]).toEqual([
				info?.relid,
				mine?.state === "opened" ? "Open" : "Closed",
				false,
			]);
			const gpadls = [...(mine?.gpadls.keys() ?? []), ...(mine?.ringGpadl ? [mine.ringGpadl.handle] : [])];
			const theirs = this.server.gpadls(offerId);
			expect(theirs.map(({ gpadl, state }) => [gpadl, state]).sort()).toEqual(
				gpadls.map((id) => [id, "Accepted"]).sort(),
			);
		}
	}
}

async function both(isConfidential: boolean): Promise<Both> {
	const engine = await Engine.create({ ram: "16M", swiotlb: null, spareBytes: 2 ** 21 });
	return new Both(engine, isConfidential);
}

const FLAGS = [
	0,
	OfferFlag.ConfidentialRingBuffer,
	OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory,
];

describe("the guest side and the server side", () => {
	it("connect, open a channel of each kind, carry data both ways, and leave nothing", async () => {
		for (const isConfidential of [true, false]) {
			const pair = await both(isConfidential);
			const shared = pair.sharedPages;
			for (const [i, flags] of FLAGS.entries()) pair.offer(i + 1, flags);
			pair.do(pair.guest.connect());
			pair.settle();
			pair.check();
			expect(pair.server.connection).toMatchObject({
				info: { trusted: isConfidential, features: isConfidential ? 0x10 : 0 },
			});
			for (const relid of [1, 2, 3]) {
				const before = pair.sharedPages;
				pair.do(pair.guest.open(relid, { sendPages: 2, receivePages: 2 }));
				pair.settle();
				expect(pair.sharedPages - before).toBe(isConfidential && relid > 1 ? 0 : 4);
				expect(pair.guest.send(relid, new Uint8Array(32).fill(relid), { wantsCompletion: true })).toBe("ok");
				pair.settle();
			}
			expect(pair.echoed).toEqual([1, 2, 3].map((relid) => ({ relid, payload: new Uint8Array(32).fill(relid) })));
			pair.check();
			pair.do(pair.guest.unload());
			pair.settle();
			expect(pair.server.connection.name).toBe("Disconnected");
			expect(pair.server.channels.every(({ state }) => state.name === "ClientReleased")).toBe(true);
			expect(pair.commands.map(({ status }) => status)).toEqual(["ok", "ok", "ok", "ok", "ok"]);
			expect(pair.sharedPages).toBe(shared);
			expect(pair.rejected).toEqual([]);
		}
	});

	it("agree after any history of opens, closes, buffers, rescinds and reconnections, whatever overtakes what", async () => {
		for (let run = 0; run < bySuite({ quick: 8, slow: 40 }); run++) {
			const random = new Random(SEED + run);
			const pair = await both(random.oneIn(2));
			const { guest } = pair;
			const shared = pair.sharedPages;
			const offers = new Set<number>();
			const add = () => {
				const offerId = pair.offer(random.between(1, 6), random.pick(FLAGS));
				if (offerId !== null) offers.add(offerId);
			};
			for (let i = 0; i < 3; i++) add();
			for (let round = 0; round < 2; round++) {
				pair.do(guest.connect());
				pair.settle();
				for (let i = 0; i < 80; i++) {
					const relid = random.pick([...pair.channels.keys(), 1]);
					const handle = random.pick([...(pair.channels.get(relid)?.gpadls.keys() ?? []), 5]);
					switch (random.below(10)) {
						case 0:
							add();
							break;
						case 1:
							if (random.oneIn(2)) pair.revoke(random.pick([...offers]));
							break;
						case 2:
						case 3:
							pair.do(guest.open(relid, { sendPages: random.between(2, 20), receivePages: 2 }));
							break;
						case 4:
							pair.do(guest.close(relid));
							break;
						case 5:
							pair.do(guest.gpadl(relid, random.between(1, 60)));
							break;
						case 6:
							pair.do(guest.gpadlDown(relid, handle));
							break;
						case 7:
							// from 5.3 on a guest waits for the answer before it asks again
							if (!pair.commands.some(({ name, status }) => name === "modify" && status === undefined))
								pair.do(guest.modify(relid, random.below(4)));
							break;
						case 8:
							guest.send(relid, random.bytes(random.below(900)), { wantsCompletion: random.oneIn(2) });
							break;
						default:
							pair.settle();
							pair.check();
					}
					for (let n = random.below(6); n > 0; n--) pair.step(random);
				}
				pair.settle();
				pair.check();
				pair.do(guest.unload());
				pair.settle();
				expect(pair.server.connection.name).toBe("Disconnected");
				for (const { offerId, state } of pair.server.channels) {
					expect(state.name).toBe("ClientReleased");
					expect(pair.server.gpadls(offerId)).toEqual([]);
				}
				expect(pair.commands.filter(({ status }) => status === undefined)).toEqual([]);
				expect(pair.sharedPages).toBe(shared);
			}
		}
	});
});
