// The TypeScript SDK's second generation: node client.mjs URL PICTURE [auto | a revision to insist on].

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { travel } from "./journey.mjs";

const [url, picture, revision] = process.argv.slice(2);
const modes = { undefined: {}, auto: { versionNegotiation: { mode: "auto" } } };
const client = new Client({ name: "client", version: "2" }, modes[revision] ?? { versionNegotiation: { mode: { pin: revision } } });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
await travel(client, (params, options) => client.callTool(params, options), client.getNegotiatedProtocolVersion(), picture);
