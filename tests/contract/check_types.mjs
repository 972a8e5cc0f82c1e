// Checks the types that openapi-typescript generated: every operation has a success, and every response either a typed
// body or none at all.
import { readFileSync } from "node:fs";
import ts from "typescript";

const BINARY = ["application/octet-stream", "image/png"];
const file = process.argv[2];
const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true);
const nameOf = (member) => member.name.text ?? member.name.getText();
const members = (type) => (type && ts.isTypeLiteralNode(type) ? type.members.filter(ts.isPropertySignature) : []);
const property = (type, name) => members(type).find((member) => nameOf(member) === name)?.type;
const isUntyped = (type) => /^(unknown|any|Record<string, never>|\{\s*\})$/.test(type.getText().trim());

const operations = source.statements.find((node) => ts.isInterfaceDeclaration(node) && node.name.text === "operations");
const problems = [];
for (const operation of operations.members) {
    const id = nameOf(operation);
    const responses = members(property(operation.type, "responses"));
    if (!responses.some((response) => /^[23]/.test(nameOf(response)))) problems.push(`${id}: no success`);
    for (const response of responses) {
        for (const body of members(property(response.type, "content"))) {
            const isBinary = BINARY.includes(nameOf(body));
            if (isUntyped(body.type) && !isBinary) problems.push(`${id} ${nameOf(response)}: ${nameOf(body)} has no type`);
        }
    }
}
console.log(`${operations.members.length} operations`);
for (const problem of problems) console.error(problem);
process.exit(problems.length ? 1 : 0);
