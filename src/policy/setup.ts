/** A policy and everything beside it that a run of it needs: plain data, made from its name. */
import type { Policy } from "../coco/rules/policy.ts";
import type { Reference } from "../coco/rules/reference.ts";

/** A policy with its modifiers applied. */
export interface PolicySetup {
	/** The policy's name and its modifiers', joined by "+". */
	readonly name: string;
	readonly policy: Policy;
	/** The modifiers, in the order of the name. */
	readonly modifiers: readonly Pick<Modifier, "name" | "title" | "source" | "references">[];
	/** Changes of the guest. */
	readonly guest: {
		/** swiotlb=force on the command line. */
		readonly force?: true;
		/** Slots of every pool are zeroed when they are given back. */
		readonly zeroOnFree?: true;
		/** The default pool's pages could not be decrypted at boot. */
		readonly undecrypted?: true;
		/** Pages stay present while they are converted, where the platform would unmap them. */
		readonly keepPresent?: true;
	};
	/** Changes of the scenario's device. */
	readonly device: {
		readonly dmaMask?: bigint;
		readonly coherent?: false;
		/** It is a TDISP device whose evidence is accepted. */
		readonly accepted?: true;
		/** It sits behind a port that anybody can reach. */
		readonly externalFacing?: true;
	};
	/** Whether its driver flips its flag while a mapping lives, where the policy takes the driver's word. */
	readonly flipsFlag: boolean;
	/** Whether user space loads the device's driver. */
	readonly loadsDriver: boolean;
	/** Whether user space hands the device secrets; else only pages without any. */
	readonly handsSecrets: boolean;
	/** Whether evidence has to be accepted before an offer counts, and nobody has accepted it yet. */
	readonly evidencePending: boolean;
	/** What becomes of the guest's attempt at a confidential VMBus connection. fallback, no-fallback: it fails. */
	readonly connection: "confidential" | "fallback" | "no-fallback";
	/** Whether drivers say with MMIO that it is shared (DMA_ATTR_CC_SHARED). */
	readonly mmioShared: boolean;
	/** Whether what is refused on grounds of state is let through, and only counted. */
	readonly advisory: boolean;
}

/** A change of a policy or of what runs under it. */
export interface Modifier {
	readonly name: string;
	/** One line: what it does. */
	readonly title: string;
	/** One line: who proposed it, and what was said of it. */
	readonly source: string;
	/** The mails, commits and files that it is from; none: nobody proposed it. */
	readonly references: readonly Reference[];
	readonly apply: (setup: PolicySetup) => PolicySetup;
}

/** A policy without modifiers. */
export function setupOf(policy: Policy): PolicySetup {
	return {
		name: policy.name,
		policy,
		modifiers: [],
		guest: {},
		device: {},
		flipsFlag: false,
		loadsDriver: true,
		handsSecrets: true,
		evidencePending: false,
		connection: "confidential",
		mmioShared: false,
		advisory: false,
	};
}
