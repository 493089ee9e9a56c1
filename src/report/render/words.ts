/** What every format writes in the same way: sentences, labels, values. */
import type { Figure, Row, Value, Words } from "../model.ts";
import { formatNumber } from "../units.ts";

/** A sentence without what sets its parts off. */
export function plainText(words: Words): string {
	if (typeof words === "string") return words;
	return words
		.map((part) => {
			if (typeof part === "string") return part;
			if ("strong" in part) return part.strong;
			if ("code" in part) return part.code;
			return part.text === part.link ? part.link : `${part.text} <${part.link}>`;
		})
		.join("");
}

/** A row's label, with the unit of its figures where they do not say it. */
export function labelText({ label, unit }: Pick<Row, "label" | "unit">): string {
	return unit === null || !unit.inLabel ? label : `${label}, ${unit.name}`;
}

function figureText({ number, unit, signed }: Figure): string {
	return signed ? `${number < 0 ? "-" : "+"}${unit.write(Math.abs(number))}` : unit.write(number);
}

/** A value in a line. */
export function valueText(value: Value): string {
	switch (value.value) {
		case "figure":
			return figureText(value);
		case "text":
			return value.text;
		case "counts": {
			const counts = Object.entries(value.counts).map(([name, count]) => `${formatNumber(count)} ${name}`);
			return counts.length === 0 ? "none" : counts.join(", ");
		}
		case "said":
			return [...value.lines.map(({ text }) => text), ...value.costs.map(figureText)].join(", ");
		case "missing":
			return "-";
	}
}
