/** What a system is made of, and what its embedder is told. */
import type { Engine } from "../../engine.ts";
import type { SynicInterrupt } from "../../synic/interrupts.ts";
import type { HypercallReport } from "../../synic/machine.ts";
import type { SynicPlatform } from "../../synic/modes.ts";
import type { GuestChannel, ReceivedPacket } from "../guest/channel.ts";
import type { ConfidentialDiscovery } from "../guest/options.ts";

/** Platforms by the names that people use. */
export const SYSTEM_PLATFORMS = ["snp", "tdx", "vbs", "none"] as const;
export type SystemPlatform = (typeof SYSTEM_PLATFORMS)[number];

/** Bit of the shared alias of RAM under a paravisor: SNP's vTOM, TDX's shared bit; VBS has one of its own. */
const BOUNDARIES: Readonly<Record<SystemPlatform, number>> = { snp: 2 ** 46, tdx: 2 ** 47, vbs: 2 ** 46, none: 0 };

/** A platform by its name. Without a paravisor, SNP and TDX guests name their pages by plain addresses. */
export function platformOf(isolation: SystemPlatform, paravisor: boolean): SynicPlatform {
	const hasAlias = paravisor || isolation === "vbs";
	return { isolation, paravisor, sharedGpaBoundary: hasAlias ? BOUNDARIES[isolation] : 0 };
}

export interface SystemOptions {
	readonly platform: SynicPlatform;
	/** Processors. Default 1. */
	readonly vps?: number;
	/**
	 * The guest's RAM: from gpa 0 on, 2 MiB or more in one region, all private where the platform isolates. Default: a new one
	 * by the two options below.
	 */
	readonly engine?: Engine;
	/** Default 16 MiB. */
	readonly ramBytes?: number;
	/** Room for rings' records and packets, about 20 KiB a channel. Default 2 MiB. */
	readonly spareBytes?: number;
	/** Whether the paravisor serves channels of its own, over Confidential VMBus. Default false: the host serves the guest. */
	readonly paravisorServes?: boolean;
	/** Whether the paravisor also offers the host's channels. Default false. */
	readonly relays?: boolean;
	/** How the guest finds Confidential VMBus. Default: it never does. */
	readonly confidential?: ConfidentialDiscovery;
	/** Feature flags that the guest asks for. Default 0. */
	readonly features?: number;
	/** Devices do nothing until step() or settle(). Default false: all happens at once. */
	readonly lazy?: boolean;
	/** Whether events are kept in `events`. Default true. */
	readonly records?: boolean;
	readonly onInterrupt?: (interrupt: SynicInterrupt) => void;
	readonly onHypercall?: (report: HypercallReport) => void;
	/** A packet that the guest has received. */
	readonly onPacket?: (channel: GuestChannel, packet: ReceivedPacket) => void;
}
