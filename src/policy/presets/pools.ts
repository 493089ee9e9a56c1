/** Policies about which pool serves whom, and who decides how its addresses look. */

import type { Policy } from "../../coco/rules/policy.ts";
import type { GuestPoolOptions } from "../../coco/rules/pool.ts";
import { acceptedIn, everyoneIn, reachedAndFitting, remedyFor } from "../choice.ts";
import { BUS_POOL_PULL, ON_POOL_STATE_V4, POOL_STATE_V4, SME_THREAD } from "../sources.ts";

const PRIVATE: readonly GuestPoolOptions[] = [{ kind: "private", size: "1M" }];

/** On pKVM the pool stays private, and a device that is no part of the guest reads nothing there. */
const REQUEST_WINS: Policy = {
	name: "request-wins",
	title:
		"the device's need must equal the pool's state, and restricted pools are decrypted only with CC_ATTR_MEM_ENCRYPT",
	source: "Aneesh Kumar K.V, v4, May 2026; Mostafa Saleh: breaks pKVM, whose virtio traffic fails",
	references: [POOL_STATE_V4, ...ON_POOL_STATE_V4],
	kernel: "linux-7.3",
	acceptance: "any",
	checksPoolState: true,
	decryptsRestricted: false,
};

const POOL_WINS: Policy = {
	name: "pool-wins",
	title:
		"the pool's property wins over the request: what bounces gets the address of the pool's kind, nothing is refused",
	source:
		"Mostafa Saleh, May 2026, on Aneesh Kumar K.V's v4; Jason Gunthorpe: static pools, and devices that change state",
	references: ON_POOL_STATE_V4,
	kernel: "linux-7.3",
	acceptance: "any",
	checksPoolState: false,
};

/** The check that stays is what tells a buffer without a match. */
const POOL_MATCHER: Policy = {
	name: "pool-matcher",
	title: "several pools a device, matched by what buffer and device need at run time; no match is an error",
	source: "Mostafa Saleh, May 2026, on Aneesh Kumar K.V's v4",
	references: ON_POOL_STATE_V4,
	kernel: "linux-7.3",
	acceptance: "any",
	pools: PRIVATE,
	pool: ({ isPrivate, accepted }, pools) =>
		pools.find(({ kind, ccShared }) => kind !== "bus" && ccShared === !(isPrivate && accepted)) ?? null,
};

const CAPABLE_CODES: Policy = {
	name: "capable-codes",
	title:
		"dma_capable tells why: out of reach (ERANGE) bounces in the private pool, wrong state (EPERM) in the shared one",
	source: "Jason Gunthorpe and Mostafa Saleh, May 2026, on Aneesh Kumar K.V's v4",
	references: ON_POOL_STATE_V4,
	kernel: "linux-7.3",
	acceptance: "any",
	pools: PRIVATE,
	pool: remedyFor({ ERANGE: "private", EPERM: "default" }),
};

const CAPABLE_CODES_SHARED: Policy = {
	...CAPABLE_CODES,
	name: "capable-codes-shared",
	title: "as capable-codes with the wrong remedy: whatever dma_capable says, the buffer bounces in the shared pool",
	source: "derived from Jason Gunthorpe and Mostafa Saleh, May 2026: the code replaces the check of the pool's state",
	pools: [],
	pool: remedyFor({ ERANGE: "default", EPERM: "default" }),
	checksPoolState: false,
};

const LIMITS_REINSPECTED: Policy = {
	...CAPABLE_CODES,
	name: "limits-reinspected",
	title:
		"dma_capable tells nothing; swiotlb looks at the device's limits again and takes a pool that fits and is reached, or none",
	source: "Jason Gunthorpe and Mostafa Saleh, May 2026, the other way: swiotlb re-inspects what failed",
	pool: reachedAndFitting,
};

const STATIC_POOL: Policy = {
	name: "static-pool",
	title: "a private pool for accepted devices, but a device keeps the pool that it had when its driver bound",
	source:
		"Jason Gunthorpe, May 2026, on Aneesh Kumar K.V's v4: pools made in advance go stale when a device's state changes",
	references: ON_POOL_STATE_V4,
	kernel: "linux-7.3",
	acceptance: "any",
	pools: PRIVATE,
	pool: acceptedIn("private"),
	fixesPool: true,
	transitions: "anytime",
};

const C_BIT_DECRYPTED: Policy = {
	name: "c-bit-decrypted",
	title: "an accepted device whose mask is below the C-bit bounces in the decrypted pool, as on an SME host",
	source: "Tom Lendacky, July 2026: the pool must be unencrypted so that such devices work",
	references: [SME_THREAD],
	kernel: "linux-7.3",
	acceptance: "any",
	predicates: { forceDmaUnencrypted: ({ linux, reachesPrivate }) => linux.forceDmaUnencrypted || !reachesPrivate },
};

const C_BIT_FAIL: Policy = {
	name: "c-bit-fail",
	title: "an accepted device whose mask is below the C-bit fails",
	source: "Jason Gunthorpe, July 2026, answering Tom Lendacky: or just fail",
	references: [SME_THREAD],
	kernel: "linux-7.3",
	acceptance: "any",
	predicates: { active: ({ accepted, linux, reachesPrivate }) => linux.active && (!accepted || reachesPrivate) },
};

/** The option asks for 1 MiB. */
const BUS_POOL: Policy = {
	name: "bus-pool",
	title: "a pool of the bus (hv_pci_swiotlb=1M), silently rounded up to 2 MiB, bounces its devices",
	source: "WSL2 kernel pull request 260; review: silent 2 MiB rounding",
	references: [BUS_POOL_PULL],
	kernel: "linux-6.12",
	acceptance: "none",
	pools: [{ kind: "bus", name: "hv_pci", size: "2M" }],
	pool: everyoneIn("bus"),
	messages: ["hv_pci: reserved a bounce pool of 2 MiB"],
};

export const POOL_PRESETS: readonly Policy[] = [
	REQUEST_WINS,
	POOL_WINS,
	POOL_MATCHER,
	CAPABLE_CODES,
	CAPABLE_CODES_SHARED,
	LIMITS_REINSPECTED,
	STATIC_POOL,
	C_BIT_DECRYPTED,
	C_BIT_FAIL,
	BUS_POOL,
];
