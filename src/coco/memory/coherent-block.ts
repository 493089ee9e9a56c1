/** Conversion of a block of the page allocator: as a whole it is used, or as a whole it is leaked. */
import type { PageAllocator } from "../../memory/allocator.ts";
import type { PageState } from "../../memory/ram.ts";
import type { PageConverter } from "../platform/convert.ts";

/**
 * Converts the first bytes of a block that the caller owns. A conversion that fails or throws leaks the whole block: how
 * far it came is not known, so that its pages must never be handed out again.
 * @param pages of the block; bytes: multiple of 4096, at most those of the block
 * @returns whether the pages are in state `to` now
 * @throws what the conversion throws, the block leaked
 */
export function convertBlock(
	allocator: Pick<PageAllocator, "leak">,
	converter: Pick<PageConverter, "convert">,
	block: { readonly gpa: number; readonly pages: number },
	bytes: number,
	to: PageState,
): boolean {
	let ok = false;
	try {
		ok = converter.convert(block.gpa, bytes, to).ok;
	} finally {
		if (!ok) allocator.leak(block.gpa, block.pages);
	}
	return ok;
}
