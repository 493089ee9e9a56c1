/** What must hold of a guest at any time, whatever happened: looked for in its state. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE, POOL_DISABLED } from "../../assembly/layout/pool.ts";
import type { GuestPool } from "../coco/memory/pools.ts";
import type { ViolationName } from "../coco/platform/violations.ts";
import { PageState } from "../memory/ram.ts";
import { hex } from "../status.ts";
import { checkAccount } from "./account.ts";
import { badClaims, type ChannelClaim, claimsOf } from "./claims.ts";
import { holdings } from "./copies.ts";
import type { Seen } from "./findings.ts";
import type { PropertyName } from "./properties.ts";
import { count, mappingText, type Watch } from "./watch.ts";

/** The rule that was broken by what the platform stopped. */
const VIOLATED: ReadonlyMap<ViolationName, PropertyName> = new Map([
	["in-transition-page", "no-touch-in-transition"],
	["leaked-page", "no-touch-in-transition"],
	["wrong-encoding", "encoding-equals-state"],
]);

/** Looks at a guest's state. What goes on is reported once. */
export class StateChecks {
	readonly #watch: Watch;
	readonly #channels: ChannelClaim[] = [];
	readonly #hidden: readonly GuestPool[];
	/** What the last look saw, and what this one has seen. */
	#before = new Set<string>();
	#now = new Set<string>();
	#violations: number;
	#unhandled: number;
	/** Violations that the guest's log no longer held at a look. */
	lostViolations = 0;

	constructor(watch: Watch) {
		this.#watch = watch;
		const { guest } = watch;
		this.#hidden = guest.pools.filter(({ pool }) => guest.engine.ram.pageState(pool.start) === PageState.Hidden);
		this.#violations = guest.parties.violations.total;
		this.#unhandled = guest.converter.unhandledExceptions;
	}

	addChannel(channel: ChannelClaim): void {
		this.#channels.push(channel);
	}

	look(): void {
		this.#accounts();
		this.#leakedPages();
		this.#violationsSince();
		for (const claim of [...claimsOf(this.#watch), ...this.#channels])
			for (const { property, text } of badClaims(claim))
				this.#report(property, { device: claim.name, text: () => text });
		this.#hiddenPools();
		this.#coherent();
		[this.#before, this.#now] = [this.#now, new Set()];
	}

	/** key: what tells this violation from others of its property */
	#report(property: PropertyName, seen: Seen, key = `${seen.gpa} ${seen.device} ${seen.text()}`): void {
		const standing = `${property} ${key}`;
		if (!this.#before.has(standing) && !this.#now.has(standing)) this.#watch.findings.add(property, seen);
		this.#now.add(standing);
	}

	/** Of slots: every pool's, and those that grow. */
	#accounts(): void {
		for (const pool of this.#watch.guest.engine.pools) {
			const bad = checkAccount(this.#watch, pool);
			if (bad === null) continue;
			const gpa = pool.start + bad.slot * IO_TLB_SIZE;
			const seen = { gpa, bytes: bad.slots * IO_TLB_SIZE, text: () => `pool ${pool.index}: ${bad.text}` };
			this.#report("lists-consistent", seen, String(pool.index));
		}
		for (const { growing } of this.#watch.guest.pools) {
			if (growing === null || growing.transientSlabs > 0) continue;
			const used = growing.pools.reduce((sum, pool) => sum + pool.used, 0);
			if (used === growing.used) continue;
			const text = () => `the allocator counts ${growing.used} used slots, its pools ${used}`;
			this.#report("lists-consistent", {
				gpa: growing.first.start,
				bytes: Math.abs(used - growing.used) * IO_TLB_SIZE,
				text,
			});
		}
	}

	/** Pages whose conversion failed. */
	#leakedPages(): void {
		const { guest, pages } = this.#watch;
		for (const gpa of pages.leaked) {
			if (!guest.pages.isFree(gpa) && guest.atomic?.isFree(gpa) !== true) continue;
			this.#report("leaked-never-reused", {
				gpa,
				bytes: PAGE_SIZE,
				text: () => `the page at ${hex(gpa)}, whose conversion failed, is free again`,
			});
		}
	}

	/** What the platform stopped, or the guest did not survive. */
	#violationsSince(): void {
		const { findings, guest } = this.#watch;
		const { violations } = guest.parties;
		const fresh = violations.total - this.#violations;
		const kept = Math.min(fresh, violations.list.length);
		this.lostViolations += fresh - kept;
		this.#violations = violations.total;
		for (const { who, device: index, access, what, gpa, bytes } of kept === 0 ? [] : violations.list.slice(-kept)) {
			const property = VIOLATED.get(what);
			if (property === undefined) continue;
			const device = index === null ? who : this.#watch.devices.nameOf(index);
			findings.add(property, {
				gpa,
				device,
				bytes,
				text: () => `${device}: ${access} of ${count(bytes)} at ${hex(gpa)}: ${what}`,
			});
		}
		const unhandled = guest.converter.unhandledExceptions - this.#unhandled;
		this.#unhandled += unhandled;
		for (let i = 0; i < unhandled; i++)
			findings.add("no-touch-in-transition", {
				device: "guest",
				text: () => "a stray read of a page in transition was not fixed up",
			});
	}

	/** Pools that are hidden: those that are hidden when the watch begins. */
	#hiddenPools(): void {
		const { ram } = this.#watch.guest.engine;
		for (const { name, pool } of this.#hidden) {
			for (let page: number = pool.start; page < pool.start + pool.bytes; page += PAGE_SIZE) {
				if (ram.pageState(page) === PageState.Hidden) continue;
				const { bytes, gpa } = holdings(this.#watch, page, PAGE_SIZE);
				if (bytes === 0) continue;
				const text = () =>
					`the host maps the page at ${hex(page)} of the hidden pool "${name}", with ${count(bytes)} in it`;
				this.#report("paravisor-page-unmapped", { gpa, bytes, text }, String(page));
			}
		}
	}

	/** Coherent buffers, which are judged while they live. */
	#coherent(): void {
		const { guest, devices } = this.#watch;
		if (guest.platform.hostRead === "plain") return;
		for (const { device: index, buffer } of guest.coherent.buffers()) {
			if (devices.of(index)?.accepted !== true) continue;
			let [bytes, first] = [0, buffer.gpa];
			for (let page = buffer.gpa; page < buffer.gpa + buffer.bytes; page += PAGE_SIZE) {
				if (guest.engine.ram.pageState(page) === PageState.Private) continue;
				if (bytes === 0) first = page;
				bytes += PAGE_SIZE;
			}
			if (bytes === 0) continue;
			const device = devices.nameOf(index);
			const text = () => `${count(bytes)} of a coherent buffer of "${device}", which is accepted, are not private`;
			this.#report("accepted-coherent-private", { gpa: first, device, bytes, text });
		}
	}

	/** Everything has ended, as the caller knows. */
	end(): void {
		const { guest, findings, devices, mappings } = this.#watch;
		for (const mapping of mappings.live) {
			const { number, event, bytes, tlb, gpa } = mapping;
			const seen = { gpa: tlb ?? gpa, device: devices.nameOf(mapping.device), mapping: number, event, bytes };
			findings.add("counters-return-to-zero", {
				...seen,
				text: () => `${mappingText(this.#watch, mapping)}: never ended`,
			});
		}
		// what the log tells is said above: this is what the engine counts beside it
		if (mappings.count > 0) return;
		for (const { pool, growing, name } of guest.pools) {
			const used = (pool.flags & POOL_DISABLED) !== 0 ? 0 : (growing?.used ?? pool.used);
			const transient = growing === null ? 0 : growing.transientSlabs + growing.transients.length;
			if (used + transient === 0) continue;
			const text = () => `the ${name} pool counts ${used} used slots and ${transient} transient ones`;
			findings.add("counters-return-to-zero", { gpa: pool.start, bytes: used * IO_TLB_SIZE, text });
		}
		for (const device of guest.devices) {
			const { mappings: direct, bounceSlots, coherentBuffers } = device.holds();
			if (direct + bounceSlots + coherentBuffers === 0) continue;
			const text = () =>
				`"${device.name}" holds ${direct} direct and ${bounceSlots} bounced mappings, ${coherentBuffers} coherent buffers`;
			findings.add("counters-return-to-zero", { device: device.name, text });
		}
	}
}
