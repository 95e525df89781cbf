import type { SurveyResult } from '../deliver/survey.ts'
import type { AuthorityStatus, CertificateStatus, State, TargetStatus } from '../rotation/status.ts'
import {
  headlineOf,
  othersOf,
  placeOfEndpoint,
  reasonsOfAuthority,
  reasonsOfEndpoint,
  reasonsOfTarget,
  stateOfEndpoint,
} from './status-report.ts'
import type { FleetStatus } from './status-report.ts'
import { day, gravityOf, instantIn, minute, roughly } from './status-words.ts'
import type { EndpointState } from './status-words.ts'
import { printable } from './terminal.ts'
import { axisFor, placeOf, ticksOf } from './timeline.ts'
import type { Axis, Life } from './timeline.ts'

/** Text that is HTML already. */
class Markup {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

type Part = string | Markup | readonly Markup[]

/** HTML in which every value that is not Markup is escaped: a subject from elsewhere can hold anything. */
function markup(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((text, next, index) => text + render(parts[index - 1] ?? '') + next))
}

function render(part: Part): string {
  if (part instanceof Markup) return part.text
  if (typeof part === 'string') return escapeHtml(printable(part, { unicode: true }))
  return part.map(({ text }) => text).join('')
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

/** One self-contained page with the tables and the timeline of a status: no scripts, no fonts, no network. */
export function statusPage(status: FleetStatus): string {
  const { authorities, targets, endpoints, now } = status
  const leaves = targets.flatMap(({ leaf, dueAt }) => livesOf(leaf, dueAt))
  const roots = authorities.flatMap(({ certificate, dueAt }) => livesOf(certificate, dueAt))
  const view: View = { now, axis: axisFor(leaves.length > 0 ? leaves : roots, now) }
  const { well, verdict, detail, next } = headlineOf(status)
  const page = markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>Certificates: ${verdict}</title>
<style>${new Markup(styles)}</style>
</head>
<body>
<header>
<h1>Certificates</h1>
<p><strong class="${well ? 'good' : 'bad'}">${verdict}</strong>: ${detail}${next === null ? '' : `; ${next}`}</p>
<p class="quiet">As of ${time(now, minute)}. Bars run from ${time(new Date(view.axis.start), day)} to
${time(new Date(view.axis.end), day)}. ${legend}</p>
</header>
<main>
${certificateTable(
  'Authorities',
  'Authority',
  authorities.map((authority) => authorityRow(authority, view)),
  view,
)}
${certificateTable(
  'Targets',
  'Target',
  targets.map((target) => targetRow(target, view)),
  view,
)}
${endpoints.length === 0 ? '' : endpointTable(endpoints)}
</main>
</body>
</html>
`
  return page.text
}

/** What all validities on the page are drawn with. */
interface View {
  readonly now: Date
  readonly axis: Axis
}

function livesOf(certificate: CertificateStatus | null, dueAt: Date | null): Life[] {
  return certificate ? [{ notBefore: certificate.notBefore, notAfter: certificate.notAfter, dueAt }] : []
}

const legend = markup`<span class="legend"><i class="key life"></i> valid <i class="key late"></i> due until it ends
<i class="key mark"></i> today</span>`

// --------------------------------------------------------------------------------------------------------------- tables

/** The roles are given, because a table that is laid out as cards, on a phone, is none to a screen reader otherwise. */
function table(title: string, heads: readonly Markup[], rows: readonly Markup[]): Markup {
  if (rows.length === 0) return markup`<section><h2>${title}</h2><p>None.</p></section>`
  return markup`<section>
<h2>${title}</h2>
<table role="table" class="${title.toLowerCase()}" aria-label="${title}">
<thead role="rowgroup"><tr role="row">${heads.map(columnHead)}</tr></thead>
<tbody role="rowgroup">
${rows}</tbody>
</table>
</section>`
}

function columnHead(content: Markup): Markup {
  return markup`<th role="columnheader" scope="col">${content}</th>`
}

function certificateTable(title: string, what: string, rows: readonly Markup[], { axis }: View): Markup {
  const ticks = ticksOf(axis, 4).map(({ at, label }) => {
    return markup`<span style="left:${percent(placeOf(axis, at))}">${label}</span>`
  })
  const validity = markup`Validity<div class="ticks" aria-hidden="true">${ticks}</div>`
  const others = ['Ends', 'Due', 'Key', 'Names', 'SHA-256'].map((head) => markup`${head}`)
  return table(title, [markup`State`, markup`${what}`, validity, ...others], rows)
}

function authorityRow(authority: AuthorityStatus, view: View): Markup {
  const { path, state, certificate, dueAt } = authority
  const notes = [...(certificate ? [certificate.subject] : []), ...othersOf(authority, view.now)]
  const reasons = reasonsOfAuthority(authority, view.now)
  return certificateRow({ path, state, certificate, dueAt, notes, reasons }, view)
}

function targetRow(target: TargetStatus, view: View): Markup {
  const { path, state, leaf, dueAt, authority } = target
  const notes = [...(leaf ? [leaf.subject] : []), ...(authority === null ? [] : [`of the authority ${authority}`])]
  const reasons = reasonsOfTarget(target, view.now)
  return certificateRow({ path, state, certificate: leaf, dueAt, notes, reasons }, view)
}

interface Row {
  readonly path: string
  readonly state: State
  readonly certificate: CertificateStatus | null
  readonly dueAt: Date | null
  readonly notes: readonly string[]
  readonly reasons: readonly string[]
}

function certificateRow({ path, state, certificate, dueAt, notes, reasons }: Row, view: View): Markup {
  const head = rowHead(path, state, notes, reasons)
  if (!certificate) return tableRow([stateCell(state), head, ...Array.from({ length: 6 }, () => empty)])
  const { notAfter, names, key, sha256 } = certificate
  const instant = instantIn(certificate)
  const left = roughly(notAfter.getTime() - view.now.getTime())
  return tableRow([
    stateCell(state),
    head,
    cell('Validity', bar(certificate, dueAt, view)),
    cell('Ends', markup`${time(notAfter, instant)} <small>${left}</small>`),
    dueAt ? cell('Due', time(dueAt, instant)) : empty,
    cell('Key', markup`${key}`),
    names.length > 0 ? cell('Names', nameList(names)) : empty,
    cell('SHA-256', fingerprint(sha256)),
  ])
}

function endpointTable(endpoints: readonly SurveyResult[]): Markup {
  const heads = ['State', 'Endpoint', 'Target', 'Ends', 'Protocol', 'SHA-256'].map((head) => markup`${head}`)
  return table('Endpoints', heads, endpoints.map(endpointRow))
}

function endpointRow(endpoint: SurveyResult): Markup {
  const { chain, target, protocol } = endpoint
  const [leaf] = chain
  const state = stateOfEndpoint(endpoint)
  return tableRow([
    stateCell(state),
    rowHead(placeOfEndpoint(endpoint), state, [], reasonsOfEndpoint(endpoint)),
    cell('Target', markup`${target}`),
    leaf ? cell('Ends', time(leaf.notAfter, instantIn(leaf))) : empty,
    protocol === null ? empty : cell('Protocol', markup`${protocol}`),
    leaf ? cell('SHA-256', fingerprint(leaf.sha256)) : empty,
  ])
}

function tableRow(cells: readonly Markup[]): Markup {
  return markup`<tr role="row">${cells}</tr>\n`
}

function rowHead(
  path: string,
  state: State | EndpointState,
  notes: readonly string[],
  reasons: readonly string[],
): Markup {
  const lines = [
    ...notes.map((note) => markup`<small>${note}</small>`),
    ...reasons.map((reason) => markup`<small class="${gravityOf(state)}">${reason}</small>`),
  ]
  return markup`<th role="rowheader" scope="row">${path}${lines}</th>`
}

/** The label stands in for the column's head where the row is a card. */
function cell(label: string, content: Markup): Markup {
  return markup`<td role="cell" data-label="${label}"><div>${content}</div></td>`
}

/** A card leaves it out. */
const empty = markup`<td role="cell" class="empty">–</td>`

function stateCell(state: State | EndpointState): Markup {
  return markup`<td role="cell" class="state ${gravityOf(state)}">${state}</td>`
}

/** Broken between names, and within one only where it finds no line of its own. */
function nameList(names: readonly string[]): Markup {
  const last = names.length - 1
  return markup`${names.map((name, index) => markup`<span class="name">${name}${index < last ? ', ' : ''}</span> `)}`
}

function fingerprint(sha256: string): Markup {
  return markup`<code title="${sha256}">${sha256.slice(0, 32)}</code>`
}

function time(date: Date, text: (date: Date) => string): Markup {
  const words = text(date)
    .split(' ')
    .map((word, index) => markup`${index > 0 ? ' ' : ''}<span>${word}</span>`)
  return markup`<time datetime="${date.toISOString()}">${words}</time>`
}

// ------------------------------------------------------------------------------------------------------------- timeline

/** A validity on the common axis. What leaves the axis is cut, and an arrow says so. */
function bar(certificate: CertificateStatus, dueAt: Date | null, { axis, now }: View): Markup {
  const { notBefore, notAfter } = certificate
  const instant = instantIn(certificate)
  const [begin, end] = [placeOf(axis, notBefore), placeOf(axis, notAfter)]
  const due = dueAt ? Math.min(placeOf(axis, dueAt), end) : end
  const over = notAfter < now
  const text =
    `valid from ${instant(notBefore)} to ${instant(notAfter)}` +
    (dueAt ? `, due on ${instant(dueAt)}` : '') +
    `; today is ${instant(now)}`
  const pieces = [
    ...stretch(over ? 'over' : 'life', begin, due),
    ...stretch(over ? 'over' : 'late', due, end),
    ...(begin < 0 ? [markup`<b class="before">‹</b>`] : []),
    ...(end > 1 ? [markup`<b class="after">›</b>`] : []),
    markup`<i class="today" style="left:${percent(placeOf(axis, now))}"></i>`,
  ]
  return markup`<div class="bar" role="img" aria-label="${text}" title="${text}">${pieces}</div>`
}

function stretch(kind: 'life' | 'late' | 'over', from: number, to: number): Markup[] {
  const [left, right] = [clamp(from), clamp(to)]
  if (right <= left) return []
  return [markup`<i class="${kind}" style="left:${percent(left)};width:${percent(right - left)}"></i>`]
}

function clamp(place: number): number {
  return Math.min(Math.max(place, 0), 1)
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)}%`
}

// --------------------------------------------------------------------------------------------------------------- styles

/** Below 72rem there is no room for eight columns: each row becomes a card. */
const styles = `
:root {
  color-scheme: light dark;
  --back: #fff; --text: #1c2024; --quiet: #5b646e; --line: #d9dee3; --track: #eef1f4;
  --good: #1a6e34; --warning: #8a5300; --bad: #b3201a; --life: #3a9a57; --late: #e0a63c; --over: #d1453d;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --back: #14171a; --text: #e6e9ec; --quiet: #9aa4ae; --line: #333a41; --track: #22282d;
    --good: #6fd18b; --warning: #f0b95a; --bad: #ff8a80; --life: #3f9c5b; --late: #b98327; --over: #c2473f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 90rem; padding: 1rem 1.25rem 3rem; background: var(--back); color: var(--text);
  font: 0.875rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 1.375rem; margin: 0 0 0.25rem; }
h2 { font-size: 1.0625rem; margin: 2rem 0 0.5rem; }
p { margin: 0.25rem 0; }
code { font: 0.75rem/1.4 ui-monospace, monospace; }
small { display: block; font-size: 0.8125rem; font-weight: normal; color: var(--quiet); }
time span { white-space: nowrap; }
.name { display: inline-block; }
.quiet, .none, .empty { color: var(--quiet); }
.good { color: var(--good); }
.warning { color: var(--warning); }
.bad { color: var(--bad); }
table { width: 100%; border-collapse: collapse; table-layout: fixed; }
th, td { padding: 0.5rem 0.75rem 0.5rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { font-size: 0.8125rem; color: var(--quiet); vertical-align: bottom; white-space: nowrap; }
th:nth-child(1) { width: 6.75rem; }
th:nth-child(3) { width: 20%; }
th:nth-child(4), th:nth-child(5), th:nth-child(6) { width: 6rem; }
th:nth-child(8) { width: 8.75rem; }
.endpoints th:nth-child(3), .endpoints th:nth-child(6) { width: 18%; }
.state { font-weight: 600; white-space: nowrap; }
.ticks { position: relative; height: 1.25rem; font-weight: normal; overflow: hidden; }
.ticks span { position: absolute; border-left: 1px solid var(--quiet); padding-left: 0.25rem; }
.bar { position: relative; height: 1rem; margin: 0.1875rem 0; background: var(--track); overflow: hidden; }
.bar i, .bar b { position: absolute; top: 0; bottom: 0; }
.bar b { line-height: 0.9; color: #fff; }
.before { left: 0.125rem; }
.after { right: 0.125rem; }
.life { background: var(--life); }
.over { background: var(--over); }
.late { background: repeating-linear-gradient(135deg, var(--late) 0 4px, transparent 4px 7px); }
.today { width: 2px; margin-left: -1px; background: var(--text); }
.legend { white-space: nowrap; }
.key { display: inline-block; width: 1rem; height: 0.625rem; margin-left: 0.75rem; }
.key.mark { width: 2px; height: 0.875rem; background: var(--text); vertical-align: -0.125rem; }
@media screen and (max-width: 72rem) {
  body { padding: 0.75rem 0.75rem 2rem; }
  .legend { display: block; }
  .key:first-child { margin-left: 0; }
  table, tbody, tr, th, td { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { padding: 0.625rem 0; border-bottom: 1px solid var(--line); }
  th, td { padding: 0.125rem 0; border: 0; }
  tbody th { font-size: 1rem; }
  tbody tr th { width: auto; }
  td[data-label] { display: grid; grid-template-columns: 5rem minmax(0, 1fr); gap: 0.5rem; }
  td[data-label]::before { content: attr(data-label); color: var(--quiet); font-size: 0.8125rem; line-height: 1.7; }
  td small { display: inline; }
  .empty { display: none; }
}
@media print {
  @page { size: landscape; margin: 12mm; }
  :root { font-size: 62.5%; }
  body { max-width: none; padding: 0; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  .bar, .key { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`
