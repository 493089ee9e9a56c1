/**
 * Who does what with which SynIC, for the three ways in which a guest uses VMBus, as tables. Linux 6.12 and the Confidential
 * VMBus series: drivers/hv/hv.c (e096fe2bd623), drivers/hv/vmbus_drv.c (2647c96649ba), drivers/hv/connection.c (bf35d298bb9a),
 * arch/x86/kernel/cpu/mshyperv.c (a156ad8c5082).
 */
import type { Gpa } from "../types.ts";
import type { SynicParty } from "./interrupts.ts";

/** Isolation of the guest; "vbs": by the hypervisor alone, without memory encryption. */
export type Isolation = "none" | "vbs" | "snp" | "tdx";

export interface SynicPlatform {
	readonly isolation: Isolation;
	readonly paravisor: boolean;
	/** Start of the shared alias of guest memory (the vTOM bit; a power of 2 up to 2^51), or 0. */
	readonly sharedGpaBoundary: number;
}

/** How VMBus is used: no paravisor; one, but the host serves VMBus; or Confidential VMBus. */
export type SynicMode = "bare" | "paravisor" | "confidential";

/** How a hypercall or an access to a register leaves the guest. "direct" traps to the paravisor where there is one. */
export type CallPath = "direct" | "ghcb" | "tdcall";

/** One write when a processor's SynIC is set up or taken down. */
export interface RegisterStep {
	readonly synic: SynicParty;
	readonly register: "SIMP" | "SIEFP" | "SINT" | "SCONTROL";
	/**
	 * SIMP, SIEFP, set up: "own": a page of the guest's; "given": the page that the register names already.
	 * Taken down: "none": the register names no page any more; "kept": it is disabled only.
	 */
	readonly page?: "own" | "given" | "none" | "kept";
	/** SINT: this is the paravisor's copy of the value just written, with or without the proxy bit. */
	readonly mirror?: "proxy" | "no proxy";
}

interface ModeTable {
	readonly enable: readonly RegisterStep[];
	readonly disable: readonly RegisterStep[];
	/** Pages that the interrupt handler looks at, in order. */
	readonly scan: readonly { readonly synic: SynicParty; readonly page: "events" | "message" }[];
	/** The SynIC that gets EOM, wherever the message came from. */
	readonly eom: SynicParty;
	/** Whose message and event pages the guest allocates, if any. */
	readonly ownPages: SynicParty | null;
}

type PageOfStep = NonNullable<RegisterStep["page"]>;
const pages = (synic: SynicParty, page: PageOfStep): RegisterStep[] => [
	{ synic, register: "SIMP", page },
	{ synic, register: "SIEFP", page },
];
const SINT: RegisterStep = { synic: "hypervisor", register: "SINT" };
const proxied: RegisterStep = { synic: "paravisor", register: "SINT", mirror: "proxy" };
const notProxied: RegisterStep = { synic: "paravisor", register: "SINT", mirror: "no proxy" };
const SCONTROL: RegisterStep = { synic: "hypervisor", register: "SCONTROL" };
const paravisorScontrol: RegisterStep = { synic: "paravisor", register: "SCONTROL" };

export const SYNIC_MODES: Readonly<Record<SynicMode, ModeTable>> = {
	bare: {
		enable: [...pages("hypervisor", "own"), SINT, SCONTROL],
		disable: [SINT, ...pages("hypervisor", "none"), SCONTROL],
		scan: [
			{ synic: "hypervisor", page: "events" },
			{ synic: "hypervisor", page: "message" },
		],
		eom: "hypervisor",
		ownPages: "hypervisor",
	},
	paravisor: {
		enable: [...pages("hypervisor", "given"), SINT, proxied, SCONTROL],
		disable: [SINT, proxied, ...pages("hypervisor", "kept"), SCONTROL],
		scan: [
			{ synic: "hypervisor", page: "events" },
			{ synic: "hypervisor", page: "message" },
		],
		eom: "hypervisor",
		ownPages: null,
	},
	confidential: {
		enable: [...pages("paravisor", "own"), ...pages("hypervisor", "given"), SINT, notProxied, paravisorScontrol],
		disable: [SINT, notProxied, ...pages("hypervisor", "kept"), ...pages("paravisor", "kept"), paravisorScontrol],
		scan: [
			{ synic: "hypervisor", page: "events" },
			{ synic: "paravisor", page: "events" },
			{ synic: "hypervisor", page: "message" },
			{ synic: "paravisor", page: "message" },
		],
		eom: "paravisor",
		ownPages: "paravisor",
	},
};

/** A guest's mode. @param confidential whether it uses Confidential VMBus */
export function modeOf(platform: SynicPlatform, confidential: boolean): SynicMode {
	if (confidential) return "confidential";
	return platform.paravisor ? "paravisor" : "bare";
}

/** Whether the host cannot read the guest's private pages. */
export function isHardwareIsolated({ isolation }: SynicPlatform): boolean {
	return isolation === "snp" || isolation === "tdx";
}

/** How the guest reaches a SynIC's registers. */
export function registerPath(platform: SynicPlatform, synic: SynicParty): CallPath {
	if (synic === "paravisor") return "direct";
	return outsidePath(platform) ?? "direct";
}

/** How HvPostMessage leaves the guest; null: it fails with INVALID_PARAMETER before it does. */
export function postPath(platform: SynicPlatform, mode: SynicMode): CallPath | null {
	return mode === "paravisor" ? outsidePath(platform) : "direct";
}

/** How HvSignalEvent leaves the guest, in confidential mode too: past the paravisor. null: it fails inside. */
export function signalPath(platform: SynicPlatform, mode: SynicMode): CallPath | null {
	return mode === "bare" ? "direct" : outsidePath(platform);
}

/** The way past a paravisor, if the platform has one. */
function outsidePath({ paravisor, isolation }: SynicPlatform): CallPath | null {
	if (!paravisor) return "direct";
	if (isolation === "snp") return "ghcb";
	return isolation === "tdx" ? "tdcall" : null;
}

/** How a call by that path names its input at `gpa`: past the paravisor to TDX's host by the shared alias. */
export function inputAddress({ sharedGpaBoundary }: SynicPlatform, path: CallPath, gpa: Gpa): bigint {
	return BigInt(path === "tdcall" ? gpa + sharedGpaBoundary : gpa);
}

/** Whether the guest decrypts its own SynIC pages. */
export function sharesSynicPages(platform: SynicPlatform, mode: SynicMode): boolean {
	return mode === "bare" && isHardwareIsolated(platform);
}

/** Whether the guest decrypts its hypercall input pages. */
export function sharesInputPages(platform: SynicPlatform): boolean {
	return isHardwareIsolated(platform) && !platform.paravisor;
}

/** Whether HvPostMessage has input pages of its own: TDX with a paravisor. They are private in confidential mode only. */
export function hasPostPages({ isolation, paravisor }: SynicPlatform): boolean {
	return isolation === "tdx" && paravisor;
}
