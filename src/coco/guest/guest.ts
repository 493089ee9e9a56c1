/** A confidential guest: an engine, its platform, the parties around it, its pools and the devices it trusts or does not. */
import { IO_TLB_SIZE, poolBytes } from "../../../assembly/layout/pool.ts";
import type { Device } from "../../dma/device.ts";
import { Engine } from "../../engine.ts";
import { PageAllocator } from "../../memory/allocator.ts";
import { FOUR_GIB, ramStretches } from "../../memory/stretches.ts";
import type { EngineOptions } from "../../setup.ts";
import { hex, orThrow } from "../../status.ts";
import { parseSwiotlbOption, poolSize } from "../../swiotlb/sizing.ts";
import { Attr, Direction, type Gpa } from "../../types.ts";
import { AtomicPools, atomicPoolBytes } from "../memory/atomic.ts";
import { CoherentMemory } from "../memory/coherent.ts";
import { GrowingPools, type Growth } from "../memory/growing.ts";
import type { Hazard } from "../memory/hazard.ts";
import { convertPool, type GuestPool, GuestPoolMemory, type PlannedPool, planPools } from "../memory/pools.ts";
import type { MemoryCipher } from "../platform/ciphertext.ts";
import { PageConverter } from "../platform/convert.ts";
import { Parties } from "../platform/parties.ts";
import { type Platform, type PlatformName, platformNamed } from "../platform/platform.ts";
import { attributesOf, isConfidentialGuest } from "../rules/attributes.ts";
import { DEFAULT_KERNEL, type Kernel, type KernelName, kernelNamed } from "../rules/kernel.ts";
import { kernelUnder, type Policy } from "../rules/policy.ts";
import type { GuestPoolOptions } from "../rules/pool.ts";
import { GuestDevice, type GuestDeviceOptions, hardwareOf, judgeOptions } from "./device.ts";
import { PageSharing } from "./sharing.ts";

export interface GuestOptions
	extends Pick<
		EngineOptions,
		"ram" | "cpus" | "memory" | "context" | "build" | "audit" | "auditEvents" | "spareBytes" | "maxDevices"
	> {
	/**
	 * The guest's RAM in bytes, where `ram` has only the stretches of it that are held: what the sizes of its pools follow
	 * from. Default: what `ram` comes to.
	 */
	readonly ramBytes?: number;
	/** A platform's name, or a record of your own. */
	readonly platform: PlatformName | Platform;
	/** Default: the policy's, or that of DEFAULT_KERNEL. */
	readonly kernel?: KernelName | Kernel;
	/** The rules that differ from the kernel's, for every device. Default: none do. */
	readonly policy?: Policy;
	/** Linux's `swiotlb=` option. "force": every device bounces; "noforce" or null: no default pool. */
	readonly swiotlb?: string | null;
	/** Most slots that the default pool's allocator may grow by (CONFIG_SWIOTLB_DYNAMIC). Default 0: it does not grow. */
	readonly growthSlabs?: number;
	/** Zero the default pool's slots when they are given back. Default false, as Linux. */
	readonly zeroOnFree?: boolean;
	/** Pools reserved at boot beside the default one. */
	readonly pools?: readonly GuestPoolOptions[];
	/** Ranges that the page allocator leaves alone: the kernel's image, buffers of the embedder's. Page-aligned. */
	readonly reserved?: readonly { readonly gpa: Gpa; readonly bytes: number }[];
	/** Whether no memory is found for the default pool at boot. Default false. */
	readonly bootPoolFails?: boolean;
	/** Whether the kernel has atomic pools (CONFIG_DMA_COHERENT_POOL). Default true. */
	readonly atomicPools?: boolean;
	/** Bytes of each atomic pool (`coherent_pool=`); 0: there was no memory for any. Default: by the size of RAM, as Linux. */
	readonly atomicPoolBytes?: number;
	/** The guest's memory key (loadCipher), for the host's view of private RAM. Default: contents scramble by `seed`. */
	readonly cipher?: MemoryCipher;
	/** Seed of what conversions leave. Default 1. */
	readonly seed?: number;
	/** Leaves pages present while they are converted (ConverterOptions.keepPresent). Default false. */
	readonly keepPresent?: boolean;
	/** Called before any page is converted: the place for failAt. */
	readonly onConverter?: (converter: PageConverter) => void;
}

/** What a kernel may say of swiotlb=force in a confidential guest: in our words, no kernel says it yet. */
const FORCE_WARNING =
	"swiotlb=force in a confidential guest: every device bounces through memory that the host reads, accepted ones too; do not run confidential workloads with it";

/** What a tick did, allocator by allocator. */
export interface GuestTick {
	readonly growth: readonly Growth[];
	/** Bytes that the atomic pools grew by. */
	readonly atomicBytes: number;
}

interface Plan {
	readonly platform: Platform;
	readonly kernel: Kernel;
	readonly forced: boolean;
	readonly noforce: boolean;
	/** Whether a default pool was asked for and found no memory. */
	readonly noSlots: boolean;
	/** Whether its allocators' use and high-water marks are counted. */
	readonly counts: boolean;
	readonly pools: readonly PlannedPool[];
	readonly engine: EngineOptions;
}

/** RAM of a guest, held or not. @throws RangeError for less than what is held */
function ramBytesOf({ ramBytes }: GuestOptions, held: readonly { readonly bytes: number }[]): number {
	const heldBytes = held.reduce((sum, { bytes }) => sum + bytes, 0);
	if (ramBytes !== undefined && !(ramBytes >= heldBytes))
		throw new RangeError(`ramBytes: ${ramBytes} is less than the ${heldBytes} bytes of ram`);
	return ramBytes ?? heldBytes;
}

function planOf(options: GuestOptions): Plan {
	const platform = typeof options.platform === "string" ? platformNamed(options.platform) : options.platform;
	const { policy } = options;
	const asked = options.kernel ?? policy?.kernel ?? DEFAULT_KERNEL;
	const given = typeof asked === "object" ? asked : kernelNamed(asked);
	if (policy !== undefined && given.name !== policy.kernel)
		throw new RangeError(`kernel: policy ${policy.name} changes the rules of ${policy.kernel}, not of ${given.name}`);
	const kernel = kernelUnder(policy ?? null, given);
	const { cpus = 1, growthSlabs = 0, zeroOnFree = false } = options;
	const reserved = [...(options.pools ?? []), ...(policy?.pools ?? [])];
	if (!Number.isInteger(growthSlabs) || growthSlabs < 0 || growthSlabs > 2 ** 20)
		throw new RangeError(`growthSlabs must be a whole number from 0 to 2^20, not ${growthSlabs}`);
	const regions = ramStretches(options.ram);
	const ramBytes = ramBytesOf(options, regions);
	const option = options.swiotlb === null ? { force: false } : parseSwiotlbOption(options.swiotlb ?? "");
	const { needsTrackHiwater } = kernel.rules;
	if (option.trackHiwater === true && !needsTrackHiwater.is)
		throw new RangeError(`swiotlb=${options.swiotlb}: ${kernel.title} has no word track_hiwater`);
	const coco = attributesOf(kernel, platform).guest;
	const size = option.force === false ? null : poolSize({ cpus, coco, ramBytes, ...option });
	const noSlots = size !== null && options.bootPoolFails === true;
	const fallback = size === null || noSlots ? null : { size, grows: growthSlabs > 0, zeroOnFree };
	const pools = planPools({ kernel, platform, regions, fallback, reserved });
	const records = pools.reduce((sum, { size: { slabs, areas } }) => sum + poolBytes(slabs, areas, true), 0);
	// grown pools have at most an area each 128 slots, transient ones at most 128 slots
	const growth = growthSlabs === 0 ? 0 : poolBytes(growthSlabs, growthSlabs / 128 + 1, true) + 512 * 1024;
	const { memory, context, build, audit, auditEvents, spareBytes = 65536, maxDevices } = options;
	const passed = Object.fromEntries(
		Object.entries({ memory, context, build, audit, auditEvents, maxDevices }).filter(
			([, value]) => value !== undefined,
		),
	);
	const engine: EngineOptions = {
		...passed,
		ram: options.ram,
		cpus,
		swiotlb: null,
		coco: platform.hostRead !== "plain",
		maxPools: pools.length + Math.ceil(growthSlabs / 128),
		spareBytes: spareBytes + records + growth,
	};
	const [forced, noforce] = [option.force === true, option.force === false];
	const counts = !needsTrackHiwater.is || option.trackHiwater === true;
	return { platform, kernel, forced, noforce, noSlots, counts, pools, engine };
}

/** A guest. Drivers take buffers from `pages`, so that pools that grow do not meet them. */
export class Guest {
	readonly engine: Engine;
	readonly platform: Platform;
	readonly kernel: Kernel;
	/** Converts pages, and fails where it is told to. */
	readonly converter: PageConverter;
	readonly parties: Parties;
	/** The kernel's page allocator: what is not reserved, a pool's or in use. */
	readonly pages: PageAllocator;
	readonly atomic: AtomicPools | null;
	/** Coherent buffers of all devices: GuestDevice.allocCoherent. */
	readonly coherent: CoherentMemory;
	readonly pools: readonly GuestPool[];
	readonly policy: Policy | null;
	readonly #sharing: PageSharing;
	readonly #devices: GuestDevice[] = [];
	readonly #observers = new Set<(device: GuestDevice) => void>();
	readonly #ramBytes: number;
	readonly #forced: boolean;
	readonly #noforce: boolean;
	readonly #noSlots: boolean;
	readonly #counts: boolean;
	readonly #growthBytes: number;
	/** Hazards in the order in which they were met. */
	readonly hazards: Hazard[] = [];
	/** What it logged at boot by its policy's doing. */
	readonly policyMessages: readonly string[];
	/** What Linux would have logged. */
	readonly messages: string[] = [];

	private constructor(engine: Engine, plan: Plan, options: GuestOptions) {
		this.engine = engine;
		this.platform = plan.platform;
		this.kernel = plan.kernel;
		this.#ramBytes = ramBytesOf(options, engine.ram.regions);
		this.#forced = plan.forced;
		this.#noforce = plan.noforce;
		this.#noSlots = plan.noSlots;
		this.#counts = plan.counts;
		const { cipher, seed, keepPresent = false, reserved = [], growthSlabs = 0 } = options;
		this.policy = options.policy ?? null;
		const { messages = [], warnsForce = false } = options.policy ?? {};
		this.policyMessages =
			warnsForce && plan.forced && isConfidentialGuest(plan.kernel, plan.platform)
				? [...messages, FORCE_WARNING]
				: messages;
		this.messages.push(...this.policyMessages);
		if (plan.noSlots) this.messages.push("software IO TLB: Failed to allocate memory for the default pool");
		this.#growthBytes = growthSlabs * IO_TLB_SIZE;
		this.converter = new PageConverter(engine, plan.platform, {
			...(cipher === undefined ? {} : { cipher }),
			...(seed === undefined ? {} : { seed }),
			keepPresent,
		});
		this.#sharing = new PageSharing(this.converter, (hazard) => this.hazards.push(hazard));
		options.onConverter?.(this.converter);
		this.parties = new Parties(this.converter);
		const taken = plan.pools.map(({ start, bytes }) => ({ gpa: start, bytes }));
		this.pages = new PageAllocator(engine.ram.regions, [...reserved, ...taken]);
		this.atomic = options.atomicPools === false ? null : this.#makeAtomic(options.atomicPoolBytes);
		this.coherent = new CoherentMemory({
			ram: engine.ram,
			allocator: this.pages,
			converter: this.converter,
			atomic: this.atomic,
			kernel: plan.kernel,
			onHazard: (hazard) => this.hazards.push(hazard),
		});
		this.pools = plan.pools.map((pool) => this.#makePool(pool));
	}

	/** Bytes of engine state that a guest with these options needs, for an embedder's `context`. @throws as create */
	static contextBytes(options: GuestOptions): number {
		return Engine.contextBytes(planOf(options).engine);
	}

	/** Bytes that the audit of a guest over these stretches needs, for an embedder's `audit`. @throws as create */
	static auditBytes(options: GuestOptions): number {
		return Engine.auditBytes(planOf(options).engine);
	}

	/**
	 * Makes a guest: its RAM as the platform starts it, its pools reserved, converted and made.
	 * @throws RangeError that names the option; TrustError for a pool that the platform cannot have; DmaError as Engine.create
	 */
	static async create(options: GuestOptions): Promise<Guest> {
		const plan = planOf(options);
		return new Guest(await Engine.create(plan.engine), plan, options);
	}

	#makeAtomic(bytes = atomicPoolBytes(this.#ramBytes)): AtomicPools {
		const pools = new AtomicPools({
			ram: this.engine.ram,
			allocator: this.pages,
			converter: this.converter,
			bytes,
			kernel: this.kernel,
		});
		this.messages.push(...pools.messages);
		return pools;
	}

	#makePool(plan: PlannedPool): GuestPool {
		const { state, failed, disabled, attachError, message } = convertPool(this.converter, this.kernel, plan);
		if (message !== null) this.messages.push(message);
		if (failed && !disabled) {
			const detail = `the ${plan.name} pool's pages could not be decrypted: ${this.kernel.title} uses them in whatever state they are`;
			this.hazards.push({ what: "POOL_STATE_UNKNOWN", device: null, detail });
		}
		const { ccShared, zeroOnFree, kind, name } = plan;
		const grows = plan.grows && !disabled;
		const options = { state, encrypted: !ccShared, zeroOnFree, grows, disabled };
		const pool = this.engine.addPool(plan.size, { ...options, start: plan.start });
		const growing = grows ? new GrowingPools(this.engine, pool, this.#poolMemory(plan), this.#counts) : null;
		return { kind, name, pool, ccShared, restricted: kind === "restricted", disabled, attachError, growing };
	}

	#poolMemory(like: PlannedPool): GuestPoolMemory {
		return new GuestPoolMemory({
			allocator: this.pages,
			converter: this.converter,
			atomic: this.atomic,
			kernel: this.kernel,
			like,
			belowGpa: FOUR_GIB,
			growthBytes: this.#growthBytes,
			onHazard: (hazard) => this.hazards.push(hazard),
			onMessage: (message) => this.messages.push(message),
		});
	}

	/**
	 * Adds a device. Nothing is added when an option is refused.
	 * @throws TrustError for an offer that is refused; RangeError that names the option; DmaError CONTEXT_FULL
	 */
	addDevice(options: GuestDeviceOptions = {}): GuestDevice {
		const foreign = options.pools?.find((pool) => !this.pools.includes(pool));
		if (foreign !== undefined) {
			const names = this.pools.map(({ name }) => name).join(", ") || "none";
			throw new RangeError(`device: pools: expected pools of this guest (${names}), not ${foreign.name} of another`);
		}
		const offer = judgeOptions(options);
		const dma: Device = this.engine.addDevice({ ...hardwareOf(options), pool: null });
		const { exports } = this.engine.instance;
		const slots = this.#slotsDevice(dma, options);
		const device = new GuestDevice(dma, options, offer, {
			kernel: this.kernel,
			platform: this.platform,
			forced: this.#forced,
			noforce: this.#noforce,
			noSlots: this.#noSlots,
			policy: this.policy,
			pools: this.pools.filter(({ restricted }) => !restricted),
			makeView: (index, view) => this.parties.device(index, view),
			coherent: this.coherent,
			sharing: this.#sharing,
			onHazard: (hazard) => this.hazards.push(hazard),
			slots: {
				alloc: (bytes, mask) => exports.swiotlbAlloc(slots, bytes, mask, 0),
				free: (tlb, bytes) => {
					const { Bidirectional } = Direction;
					orThrow(
						exports.swiotlbTblUnmap(slots, tlb, bytes, Bidirectional, Attr.SkipCpuSync),
						() => `free of ${bytes} coherent bytes in slots at ${hex(tlb)}`,
					);
				},
			},
		});
		this.#devices.push(device);
		for (const observer of [...this.#observers]) observer(device);
		return device;
	}

	/**
	 * Number of the record whose pool gives a device coherent slots: its own, unless a policy may take the pool out of that
	 * one without taking the restricted pool from the device.
	 */
	#slotsDevice(dma: Device, options: GuestDeviceOptions): number {
		const restricted = options.pools?.find((pool) => pool.restricted);
		if (this.policy === null || restricted === undefined) return dma.index;
		return this.engine.addDevice({ ...hardwareOf(options), pool: restricted.pool }).index;
	}

	/** Calls `observer` with each device that is added from now on. @returns what ends that */
	onDevice(observer: (device: GuestDevice) => void): () => void {
		this.#observers.add(observer);
		return () => this.#observers.delete(observer);
	}

	get devices(): readonly GuestDevice[] {
		return this.#devices;
	}

	/** Lets the kernel's workers run: pools that are due grow, and what ended is freed. */
	tick(): GuestTick {
		const growth = this.pools.flatMap(({ growing }) => (growing === null ? [] : [growing.tick()]));
		for (const { failed } of growth) if (failed) this.messages.push("Failed to allocate new pool");
		return { growth, atomicBytes: this.atomic?.tick() ?? 0 };
	}
}
