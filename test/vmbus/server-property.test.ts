import { describe, expect, it } from "vitest";
import type { ServerAction, ServerCompletion } from "../../src/vmbus/server/actions.ts";
import type { ServerConfig } from "../../src/vmbus/server/config.ts";
import { VmbusServer } from "../../src/vmbus/server/server.ts";
import { isReleased } from "../../src/vmbus/server/types.ts";
import { encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { MessageType as M } from "../../src/vmbus/wire/messages.ts";
import { Version } from "../../src/vmbus/wire/versions.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { completionOf, device } from "./server-guest.ts";
import { type RandomPost, randomPost } from "./server-history.ts";

printSeed("vmbus server");
/** Steps of random histories; `npm run fuzz` asks for a million. */
const STEPS = Number(process.env.FUZZ_CASES ?? bySuite({ quick: 2_000, slow: 15_000 }));
const CONFIG: ServerConfig = { confidential: true, features: 0xef, maxGpadlPages: 2000 };

/** What is done to a server: plain data, so that it can be done to another one as well. */
type Op =
	| ({ readonly do: "post" } & RandomPost)
	| { readonly do: "complete"; readonly completion: ServerCompletion }
	| { readonly do: "offer"; readonly n: number; readonly sub: number }
	| { readonly do: "revoke"; readonly offerId: number }
	| { readonly do: "hold" | "retry" | "reset" };

function apply(server: VmbusServer, op: Op): { status: number; actions: readonly ServerAction[] } {
	const done = (actions: readonly ServerAction[]) => ({ status: 0, actions });
	switch (op.do) {
		case "post":
			return server.post(op);
		case "complete":
			return done(server.complete(op.completion));
		case "offer": {
			const offered = server.offer(
				device(op.n, { subChannelIndex: op.sub, flags: op.n % 3 === 0 ? 6 : 0, monitorId: "any" }),
			);
			return typeof offered === "string" ? { status: -1, actions: [] } : done(offered.actions);
		}
		case "revoke":
			return done(server.revoke(op.offerId));
		case "hold":
			server.hold([]);
			return done([]);
		case "retry":
			return done(server.retry());
		case "reset":
			return done(server.reset());
	}
}

/** A history that is mostly legal: relids, GPADLs and offers that exist are likely. */
class History {
	readonly #random: Random;
	#due: ServerCompletion[] = [];

	constructor(random: Random) {
		this.#random = random;
	}

	get due(): readonly ServerCompletion[] {
		return this.#due;
	}

	note(actions: readonly ServerAction[]): void {
		for (const action of actions) {
			const completion = completionOf(action, action.type !== "close" && this.#random.oneIn(6) ? 5 : 0);
			if (completion !== null) this.#due.push(completion);
		}
	}

	/** @param server what the choice looks at, so that most of the history is legal */
	next(server: VmbusServer): Op {
		const random = this.#random;
		if (this.#due.length > 0 && random.oneIn(2)) {
			const [completion] = this.#due.splice(random.below(this.#due.length), 1);
			return { do: "complete", completion: completion as ServerCompletion };
		}
		switch (random.below(24)) {
			case 0:
				return { do: "offer", n: random.between(1, 5), sub: random.below(2) };
			case 1:
				return {
					do: "revoke",
					offerId: server.channels.length === 0 ? 99 : random.pick(server.channels).offerId,
				};
			case 2:
				return { do: random.pick(["hold", "retry", "retry"] as const) };
			case 3:
				return random.oneIn(20) ? { do: "reset" } : { do: "retry" };
			case 4: {
				const type = random.pick(["open", "close", "modify", "gpadl", "gpadlTeardown"] as const);
				const completion = { type, offerId: random.between(1, 30), gpadl: random.below(12), status: 0 };
				return { do: "complete", completion: completion as ServerCompletion };
			}
			default:
				return { do: "post", ...randomPost(random, server) };
		}
	}
}

/** What must hold after each step. */
function check(server: VmbusServer): void {
	const relids = new Set<number>();
	let quadwords = 0;
	for (const channel of server.channels) {
		expect(channel.info === null).toBe(isReleased(channel));
		if (channel.info !== null) {
			expect(relids.has(channel.info.relid)).toBe(false);
			relids.add(channel.info.relid);
			expect(channel.info.relid).toBeGreaterThan(0);
			expect(channel.info.relid).toBeLessThan(2048);
		}
		for (const gpadl of server.gpadls(channel.offerId)) quadwords += gpadl.quadwords;
	}
	expect(quadwords).toBeLessThanOrEqual(CONFIG.maxGpadlPages as number);
}

const copy = (saved: unknown) => JSON.parse(JSON.stringify(saved));

describe("properties of the server", () => {
	it("holds its invariants over random histories, and goes on the same when saved and restored at every step", {
		timeout: 3_600_000,
	}, () => {
		const seen = new Map<string, number>();
		for (let run = 0; run < STEPS / 250; run++) {
			const random = new Random(SEED + run);
			const history = new History(random);
			const server = new VmbusServer(CONFIG);
			let twin = new VmbusServer(CONFIG);
			for (let i = 0; i < 250; i++) {
				const op = history.next(server);
				const got = apply(server, op);
				expect(apply(twin, op)).toEqual(got);
				history.note(got.actions);
				for (const action of got.actions) {
					const kind =
						action.type === "send"
							? `sent ${action.payload[0]}`
							: action.type === "rejected"
								? action.reason
								: action.type;
					seen.set(kind, (seen.get(kind) ?? 0) + 1);
				}
				check(server);
				const saved = copy(twin.save());
				twin = VmbusServer.restore(CONFIG, saved);
				expect(copy(twin.save())).toEqual(saved);
				expect(saved).toEqual(copy(server.save()));
			}
		}
		// the histories are worth something only while they reach what matters
		const types = [M.OfferChannel, M.RescindChannelOffer, M.OpenChannelResult, M.GpadlCreated, M.GpadlTorndown];
		const kinds = ["open", "close", "modify", "gpadl", "gpadlTeardown", "disconnected", "untrusted", "paused"];
		for (const kind of [...kinds, ...types.map((type) => `sent ${type}`)])
			expect(seen.get(kind) ?? 0, kind).toBeGreaterThan(STEPS / 500);
		for (const kind of ["revoked", "resetDone", "duplicate-gpadl", "channel-reserved", "modify-in-progress", "sent 17"])
			expect(seen.get(kind) ?? 0, kind).toBeGreaterThan(STEPS / 10_000);
	});

	it("ends every wait: when all devices have answered, UNLOAD is answered and a reset leaves nothing", () => {
		for (let run = 0; run < bySuite({ quick: 30, slow: 150 }); run++) {
			const random = new Random(SEED + 1000 + run);
			const history = new History(random);
			const server = new VmbusServer(CONFIG);
			for (let i = 0; i < 300; i++) history.note(apply(server, history.next(server)).actions);
			const finish = (actions: readonly ServerAction[]): ServerAction[] => {
				const all = [...actions];
				for (let at = 0; at < all.length; at++) {
					const completion = completionOf(all[at] as ServerAction);
					if (completion !== null) all.push(...server.complete(completion));
				}
				return all;
			};
			for (const completion of history.due) finish(server.complete(completion));
			finish(server.retry());
			const { connection } = server;
			expect(["Disconnected", "Connected"]).toContain(connection.name);
			if (connection.name === "Connected") {
				const { trusted, version } = connection.info;
				const unload = finish(
					server.post({ connectionId: 1, payload: encodeMessage({ type: M.Unload }), trusted }).actions,
				);
				const last = unload.at(-1);
				if (version >= Version.V1_1) expect(last?.type === "send" ? last.payload[0] : last).toBe(M.UnloadResponse);
				else expect(last?.type).toBe("disconnected");
			}
			expect(finish(server.reset()).at(-1)).toEqual({ type: "resetDone" });
			expect(server.connection).toEqual({ name: "Disconnected" });
			expect(server.waiting).toBe(0);
			for (const channel of server.channels) {
				expect([channel.state.name, channel.info]).toEqual(["ClientReleased", null]);
				expect(server.gpadls(channel.offerId)).toEqual([]);
			}
		}
	});

	it("refuses a saved state with any part of it missing or of another kind, with one line that names it", () => {
		const random = new Random(SEED + 5000);
		const history = new History(random);
		const server = new VmbusServer(CONFIG);
		for (let i = 0; i < 400; i++) history.note(apply(server, history.next(server)).actions);
		for (let n = 1; n <= 3; n++) apply(server, { do: "offer", n: 20 + n, sub: 0 });
		const places: [string | number, unknown][][] = [];
		const walk = (value: unknown, path: [string | number, unknown][]) => {
			if (path.length > 0) places.push(path);
			if (typeof value === "object" && value !== null)
				for (const [key, one] of Object.entries(value)) walk(one, [...path, [key, one]]);
		};
		walk(copy(server.save()), []);
		for (let i = 0; i < bySuite({ quick: 200, slow: 1500 }); i++) {
			const saved = copy(server.save());
			const path = random.pick(places);
			const parent = path.slice(0, -1).reduce((at, [key]) => at[key], saved);
			const [key, value] = path.at(-1) as [string, unknown];
			const others = [undefined, null, -1, 2 ** 60, 0.5, "x", [], {}, true, Number.NaN, [null], { name: "Open" }];
			const other = random.pick(others.filter((one) => JSON.stringify(one) !== JSON.stringify(value)));
			parent[key] = other;
			try {
				const restored = VmbusServer.restore(CONFIG, saved);
				// what can be as well is taken, and is sound
				check(restored);
				restored.reset();
			} catch (error) {
				expect(error).toBeInstanceOf(RangeError);
				expect((error as Error).message).toMatch(/^saved[^\n]*: expected [^\n]+$/);
			}
		}
		for (const bad of [undefined, null, 5, "x", [], {}, { format: "coco-dma vmbus server 2" }])
			expect(() => VmbusServer.restore(CONFIG, bad)).toThrow(/^saved/);
	});
});
