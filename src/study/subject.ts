/** What a workload is served by: a device and the rules that it is under. */
import { type PlatformName, platformNamed } from "../coco/platform/platform.ts";
import type { Policy } from "../coco/rules/policy.ts";
import { parsePolicy } from "../policy/parse.ts";
import { type Place, type Scenario, scenarioNamed } from "../policy/scenarios.ts";
import { type PolicySetup, setupOf } from "../policy/setup.ts";
import { type DevicePreset, devicePresetNamed } from "../workload/presets.ts";

/** `direct`: a trusted device over private pages. `bounce`: an untrusted one through the shared pool. */
export const MODES = ["direct", "bounce"] as const;
export type Mode = (typeof MODES)[number];

/** The device preset of modes, and the scenario of policies, unless options say otherwise. */
export const DEFAULT_DEVICE = "nvme";
export const DEFAULT_SCENARIO = "storvsc-full";

/** A mode, on a device. */
interface ModeChoice {
	readonly mode: Mode;
	/** A device preset's name. Default "nvme". */
	readonly device?: string;
}

/** A policy, and what it is about. */
export interface PolicyChoice {
	/** A preset's name, with modifiers such as "cc-accepted+force"; or a policy, or one with its modifiers. */
	readonly policy: string | Policy | PolicySetup;
	/** The device and what speaks for its being trusted. Default "storvsc-full". */
	readonly scenario?: string | Scenario;
	/** Default: the scenario's. */
	readonly platform?: PlatformName;
	/** Whether DMA addresses carry the platform's bit. Default true. */
	readonly encoded?: boolean;
}

export type SubjectChoice = ModeChoice | PolicyChoice;

/** Reads a policy given as text. @throws RangeError, InputError */
export type PolicyLoader = (text: string) => PolicySetup | Promise<PolicySetup>;

/** A policy on a scenario's device, or a mode on a preset's. */
export interface Subject {
	readonly setup: PolicySetup;
	readonly scenario: Scenario;
	readonly place: Place;
	readonly preset: DevicePreset;
	/** Whether the guest has a default pool. */
	readonly pool: boolean;
	/** Memory that the guest's kernel has for itself: atomic pools, coherent buffers (bytes). 0: it has no atomic pools. */
	readonly kernelBytes: number;
}

const KERNEL_BYTES = 16 * 2 ** 20;

const MODE_POLICIES: Readonly<Record<Mode, Policy>> = {
	direct: {
		name: "direct",
		title: "an accepted device does not bounce",
		source: "no proposal: the least that DMA can cost",
		kernel: "linux-6.12",
		acceptance: "tdisp",
		predicates: {
			forceBounce: ({ accepted, linux }) => !accepted && linux.forceBounce,
			forceDmaUnencrypted: ({ accepted, linux }) => !accepted && linux.forceDmaUnencrypted,
		},
	},
	bounce: {
		name: "bounce",
		title: "every device of a confidential guest bounces through one decrypted pool",
		source: "Linux 6.12 arch/x86/mm/mem_encrypt.c, mem_encrypt_setup_arch, and kernel/dma/swiotlb.c: SWIOTLB_FORCE",
		kernel: "linux-6.12",
		acceptance: "none",
	},
};

function modeSubject({ mode, device = DEFAULT_DEVICE }: ModeChoice): Subject {
	const policy = MODE_POLICIES[mode];
	if (policy === undefined) throw new RangeError(`mode: expected ${MODES.join(" or ")}, not "${mode}"`);
	const preset = devicePresetNamed(device);
	const { dmaMask } = preset.dma;
	const scenario: Scenario = {
		name: preset.name,
		title: preset.name,
		platform: "snp",
		others: [],
		driver: preset.name,
		device: preset.dma,
		trust: mode === "direct" ? { by: "tdisp", reached: "run" } : { by: "nothing" },
		restricted: false,
		vmbus: false,
	};
	return {
		setup: setupOf(policy),
		scenario,
		place: { platform: scenario.platform, encoded: true },
		preset,
		// a trusted device that reaches all of RAM needs none
		pool: mode === "bounce" || (dmaMask !== undefined && dmaMask < 2n ** 64n - 1n),
		kernelBytes: 0,
	};
}

/** A policy with its modifiers, however it was given. @param load as of subjectOf @throws as load */
export async function setupFrom(
	policy: PolicyChoice["policy"],
	load: PolicyLoader = parsePolicy,
): Promise<PolicySetup> {
	if (typeof policy === "string") return load(policy);
	return "policy" in policy ? policy : setupOf(policy);
}

/**
 * The subject that was chosen.
 * @param load reads policies given as text. Default: presets by name
 * @throws RangeError that names the option and lists what it may be; as load
 */
export async function subjectOf(choice: SubjectChoice, load: PolicyLoader = parsePolicy): Promise<Subject> {
	if ("mode" in choice) return modeSubject(choice);
	const { policy, scenario: wanted = DEFAULT_SCENARIO, encoded = true } = choice;
	const scenario = typeof wanted === "string" ? scenarioNamed(wanted) : wanted;
	const platform = platformNamed(choice.platform ?? scenario.platform).name as PlatformName;
	return {
		setup: await setupFrom(policy, load),
		scenario,
		place: { platform, encoded },
		preset: devicePresetNamed(scenario.driver),
		pool: true,
		kernelBytes: KERNEL_BYTES,
	};
}
