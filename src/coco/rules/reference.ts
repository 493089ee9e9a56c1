/** Where something was proposed, decided or written: as exactly as it is known, and nothing more. */

export interface Reference {
	/** mail: a message on a list. commit: one of Linux. code: a file of Linux and a function in it. page: anything else. */
	readonly kind: "mail" | "commit" | "code" | "page";
	/** A mail's subject, in quotes where it is known to the letter; a commit and what it does; a file and a function. */
	readonly title: string;
	/** Who wrote it. Not given: nobody single, or it is not known. */
	readonly by?: string;
	/** Day or month, as far as it is known: 2025-04-08, 2025-04. */
	readonly date?: string;
	/** The lists that it went to. */
	readonly lists?: readonly string[];
	/** The mail's Message-ID. Not given: it is not known. */
	readonly messageId?: string;
	/** Where it is read: an address that begins with https. Not given: none is known. */
	readonly url?: string;
}

export const REFERENCE_KINDS = ["mail", "commit", "code", "page"] as const satisfies readonly Reference["kind"][];

type Said = Pick<Reference, "by" | "date" | "lists" | "url">;

/** A mail whose Message-ID is known, and so its address at lore. */
export function mailById(messageId: string, subject: string, said: Said): Reference {
	return { kind: "mail", title: `"${subject}"`, messageId, url: `https://lore.kernel.org/all/${messageId}/`, ...said };
}

/** A mail whose Message-ID is not known; url: an archive's address, if one is. */
export function mailBySubject(subject: string, said: Said): Reference {
	return { kind: "mail", title: `"${subject}"`, ...said };
}

const STABLE = "https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git";

/** A commit of Linux. @param hash 12 hex digits and more @param does what it does, in our words */
export function commit(hash: string, does: string): Reference {
	return { kind: "commit", title: `${hash}: ${does}`, url: `${STABLE}/commit/?id=${hash}` };
}

/** A function of Linux. @param release without the patch level */
export function code(release: string, file: string, name: string): Reference {
	return { kind: "code", title: `Linux ${release} ${file}, ${name}`, url: `${STABLE}/tree/${file}?h=v${release}` };
}
