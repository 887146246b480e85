// Writes src/api/generated/*.d.ts from the interface documents of the services (`wardstream openapi`), so that the screens
// and the doors cannot drift apart unseen.
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import openapiTS, { astToString } from 'openapi-typescript'

const folder = new URL('../src/api/generated/', import.meta.url)
const root = fileURLToPath(new URL('../../', import.meta.url))
const python = fileURLToPath(new URL('../../.venv/bin/python', import.meta.url))
mkdirSync(folder, { recursive: true })
for (const service of ['access', 'admission', 'beds', 'billing']) {
  const command = ['-m', 'infra.cli.main', 'openapi', service, '--json']
  const document = execFileSync(python, command, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 26 })
  const head = `// Written by \`npm run client\` from the OpenAPI document of ${service}; not edited by hand.\n\n`
  writeFileSync(new URL(`${service}.d.ts`, folder), head + astToString(await openapiTS(JSON.parse(document))))
}
