/** The schemas of docs/schema, which say what the commands' JSON is. */
import { readdirSync, readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";

const FOLDER = new URL("../../docs/schema/", import.meta.url);

function loaded(): Ajv2020 {
	const ajv = new Ajv2020({ strict: true, allowUnionTypes: true, allErrors: true });
	for (const file of readdirSync(FOLDER)) ajv.addSchema(JSON.parse(readFileSync(new URL(file, FOLDER), "utf8")));
	return ajv;
}

const AJV = loaded();

/** What of some JSON is not as a schema says, a line each. @param name such as policies, or verdict#/$defs/cause */
export function schemaErrors(name: string, data: unknown): string[] {
	const [file = "", part] = name.split("#");
	const validate = AJV.getSchema(`${file}.schema.json${part === undefined ? "" : `#${part}`}`);
	if (validate === undefined) throw new Error(`there is no schema ${name}`);
	validate(data);
	return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath}: ${message}`);
}
