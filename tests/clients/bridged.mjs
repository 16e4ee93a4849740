// The TypeScript SDK's first generation as a host of a command: node bridged.mjs PICTURE COMMAND ARGUMENTS…

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { travel } from "./journey.mjs";

const [picture, command, ...args] = process.argv.slice(2);
const transport = new StdioClientTransport({ command, args });
let version;
transport.setProtocolVersion = (agreed) => {
  version = agreed;
};
const client = new Client({ name: "host", version: "1" });
await client.connect(transport);
await travel(client, (params, options) => client.callTool(params, undefined, options), version, picture);
