/** What a policy changes of the kernel, call by call, with the file and function of Linux where each is decided. */
import { KERNELS } from "../coco/rules/kernel.ts";
import type { Acceptance, Policy } from "../coco/rules/policy.ts";
import { PREDICATES } from "../coco/rules/predicate.ts";
import { code, type Reference } from "../coco/rules/reference.ts";

/** One change. */
export interface PolicyChange {
	/** The kernel's call or field, as it names it. */
	readonly call: string;
	/** What becomes of it, in a clause. */
	readonly does: string;
	/** Where Linux has it; none: nothing of the kind is in Linux. */
	readonly references: readonly Reference[];
}

/** What is asked about a device's being trusted, as the kernel or the posted patch calls it; null: nothing is. */
export const ASKED: Readonly<Record<Acceptance, string | null>> = {
	none: null,
	offer: "channel->co_external_memory",
	tdisp: "device_cc_accepted(dev)",
	any: "device_cc_accepted(dev)",
	driver: "a bit in struct device",
};

/**
 * The files and functions that a record of rules names.
 * @param source such as "Linux 6.12 include/linux/swiotlb.h, is_swiotlb_active; kernel/dma/direct.c, dma_direct_alloc"
 */
function codeOf(source: string): Reference[] {
	let release = "";
	return source.split("; ").flatMap((entry) => {
		const [, ofRelease, file, names] = /^(?:Linux (\d+\.\d+) )?([\w/.-]+\.\w+), (.+)$/.exec(entry) ?? [];
		release = ofRelease ?? release;
		return file === undefined || names === undefined || release === "" ? [] : [code(release, file, names)];
	});
}

type Field = Exclude<keyof Policy, "name" | "title" | "source" | "references" | "kernel" | "acceptance" | "predicates">;

/** What each field of a policy changes: what it changes there, said of its value; null: that value changes nothing. */
const FIELDS: {
	readonly [Name in Field]-?: (
		value: NonNullable<Policy[Name]>,
		release: string,
	) => Omit<PolicyChange, "references"> & { readonly at: readonly (readonly [file: string, name: string])[] };
} = {
	pools: (pools) => ({
		call: "pools reserved at boot",
		does: pools.map(({ kind, size, name = kind }) => `${name}: ${size}`).join(", ") || "none",
		at: [],
	}),
	pool: () => ({
		call: "dev->dma_io_tlb_mem",
		does: "points where the policy chooses",
		at: [["kernel/dma/swiotlb.c", "swiotlb_dev_init"]],
	}),
	mechanism: ({ accepted = "bounce", others = "bounce" }, release) => ({
		call: release === "6.12" ? "dma_direct_map_page" : "dma_direct_map_phys",
		does: `instead of bouncing: ${accepted} for accepted devices, ${others} for others`,
		at: [
			release === "6.12"
				? ["kernel/dma/direct.h", "dma_direct_map_page"]
				: ["kernel/dma/direct.c", "dma_direct_map_phys"],
		],
	}),
	checksPoolState: (checks) => ({
		call: "pool.cc_shared == force_dma_unencrypted(dev)",
		does: checks ? "is asked before a bounce" : "is not asked: the pool decides how its addresses look",
		at: [["kernel/dma/swiotlb.c", "swiotlb_map"]],
	}),
	decryptsRestricted: (decrypts) => ({
		call: "rmem_swiotlb_device_init",
		does: `decrypts a restricted pool${decrypts ? "" : " with CC_ATTR_MEM_ENCRYPT only"}`,
		at: [["kernel/dma/swiotlb.c", "rmem_swiotlb_device_init"]],
	}),
	plainAddresses: (plain) => ({
		call: "phys_to_dma(dev, phys)",
		does: plain ? "adds no C-bit for accepted devices" : "as before",
		at: [["include/linux/dma-direct.h", "phys_to_dma"]],
	}),
	flagSetBy: (setter) => ({
		call: "a bit in struct device",
		does: setter === "every" ? "set by any driver" : "set by storvsc, from its offer's external-memory flag",
		at: [],
	}),
	allocates: (allocates) => ({
		call: "dma_alloc_attrs(dev)",
		does: allocates ? "as before" : "finds no .alloc operation: NULL for every device",
		at: [["kernel/dma/mapping.c", "dma_alloc_attrs"]],
	}),
	syncs: (syncs) => ({
		call: "dma_sync_*(dev)",
		does: syncs ? "as before" : "finds no sync operations: does nothing, for every device",
		at: [["kernel/dma/mapping.c", "__dma_sync_single_for_cpu"]],
	}),
	fixesPool: (fixes) => ({
		call: "dev->dma_io_tlb_mem",
		does: fixes ? "stays what it was when the driver bound" : "follows the device's trust",
		at: [["kernel/dma/swiotlb.c", "swiotlb_dev_init"]],
	}),
	warnsForce: (warns) => ({
		call: "swiotlb=force",
		does: `${warns ? "is" : "is not"} warned of in a confidential guest`,
		at: [["kernel/dma/swiotlb.c", "setup_io_tlb_npages"]],
	}),
	preSharedPercent: (percent) => ({
		call: "skb_page_frag_refill",
		does: `${percent} percent of streaming buffers lie in memory that is shared for good`,
		at: [["net/core/sock.c", "skb_page_frag_refill"]],
	}),
	transitions: (transitions) => ({
		call: "device_cc_accept(dev)",
		does: {
			checked: "is refused while a driver is bound or memory is held",
			anytime: "is never refused, whatever is held",
			"before-driver": "is refused for good once a driver was bound",
		}[transitions],
		at: [],
	}),
	messages: (messages) => ({ call: "printk", does: messages.join("; "), at: [] }),
};

/** The changes of a policy, predicates first. */
export function changesOf(policy: Policy): PolicyChange[] {
	const { release } = KERNELS[policy.kernel];
	const predicates = PREDICATES.filter(({ name }) => policy.predicates?.[name] !== undefined).map(
		({ call, source }): PolicyChange => ({ call, does: "answers as the policy says", references: codeOf(source) }),
	);
	const fields = (Object.keys(FIELDS) as Field[]).flatMap((name): PolicyChange[] => {
		const value = policy[name];
		if (value === undefined) return [];
		const { call, does, at } = (
			FIELDS[name] as (value: unknown, release: string) => ReturnType<(typeof FIELDS)["pools"]>
		)(value, release);
		return [{ call, does, references: at.map(([file, fn]) => code(release, file, fn)) }];
	});
	return [...predicates, ...fields];
}
