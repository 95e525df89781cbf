import { shellWord } from '../deliver/hooks.ts'
import type { SurveyResult } from '../deliver/survey.ts'
import type { AttentionCode, AuthorityStatus, CertificateStatus, State, TargetStatus } from '../rotation/status.ts'
import { headlineOf, othersOf, placeOfEndpoint, plural, reasonsOfEndpoint, stateOfEndpoint } from './status-report.ts'
import type { FleetStatus } from './status-report.ts'
import { describeAttention, gravityOf, instantIn, roughly } from './status-words.ts'
import type { EndpointState } from './status-words.ts'
import { drawTable } from './table.ts'
import type { Column } from './table.ts'
import { fit, printable, widthOf, wrap } from './terminal.ts'
import type { Screen } from './terminal.ts'
import { drawTimeline } from './timeline-screen.ts'
import type { LabelledLife } from './timeline-screen.ts'

/** Targets and endpoints that are shown unless all are asked for: what comes after them can wait. */
const rowsShown = 20
/** With so few rows there is room for what the columns leave out. */
const rowsInFull = 4

export interface ScreenOptions {
  readonly all: boolean
  /** certgen with the flags that lead to this fleet again: `certgen --dir x`. */
  readonly command: string
}

/** A status for people: what needs attention and why, a timeline, and what to run. */
export function drawStatus(status: FleetStatus, screen: Screen, { all, command }: ScreenOptions): string {
  const { authorities, now } = status
  const [targets, moreTargets] = split(status.targets, all)
  const [endpoints, moreEndpoints] = split(worstFirst(status.endpoints), all)
  const sections = [
    headline(status, screen),
    drawAuthorities(authorities, now, screen),
    [
      ...drawTargets(targets, now, screen),
      ...drawMore(
        moreTargets.map(({ state }) => state),
        'target',
        screen,
      ),
    ],
    [...drawEndpoints(endpoints, now, screen), ...drawMore(moreEndpoints.map(stateOfEndpoint), 'endpoint', screen)],
    drawTimeline(livesOf(authorities, targets, screen), now, screen),
  ]
  const advice = drawAdvice(adviceFor(status, command), screen)
  // What matters most is above the prompt, also when the top has scrolled away.
  const lines = [...sections, advice].reduce((sum, section) => sum + section.length + 1, 0)
  const again = screen.height !== null && lines >= screen.height ? headline(status, screen) : []
  return [...sections, [...again, ...advice]]
    .filter((section) => section.length > 0)
    .map((section) => section.join('\n'))
    .join('\n\n')
}

function worstFirst(endpoints: readonly SurveyResult[]): readonly SurveyResult[] {
  const rank = (endpoint: SurveyResult): number => Number(stateOfEndpoint(endpoint) === 'current')
  return endpoints.toSorted((a, b) => rank(a) - rank(b))
}

/** What is shown, and what is only counted. */
function split<T>(rows: readonly T[], all: boolean): [readonly T[], readonly T[]] {
  return all ? [rows, []] : [rows.slice(0, rowsShown), rows.slice(rowsShown)]
}

function drawMore(states: readonly string[], what: string, screen: Screen): string[] {
  if (states.length === 0) return []
  const counts = [...new Set(states)].map((state) => `${states.filter((each) => each === state).length} ${state}`)
  const line = `and ${plural(states.length, `more ${what}`)} (${counts.join(', ')}): see --all`
  return wrap(line, screen.width).map((text) => screen.paint.dim(text))
}

function headline(status: FleetStatus, screen: Screen): string[] {
  const { well, verdict, detail, next } = headlineOf(status)
  const { paint } = screen
  const lines = [`${verdict}: ${detail}`, ...(next === null ? [] : [next])]
  const [first = '', ...others] = lines.flatMap((line) => wrap(printable(line, screen), screen.width))
  return [first.replace(verdict, (well ? paint.green : paint.red.bold)(verdict)), ...others]
}

function paintState(text: string, state: State | EndpointState, { paint }: Screen): string {
  switch (gravityOf(state)) {
    case 'bad':
      return paint.red(text)
    case 'warning':
      return paint.yellow(text)
    case 'good':
      return paint.green(text)
    case 'none':
      return paint.dim(text)
  }
}

// --------------------------------------------------------------------------------------------------------------- tables

/** What authorities and targets have in common. */
interface Row {
  readonly state: State
  readonly attention: AuthorityStatus['attention']
  readonly certificate: CertificateStatus | null
  readonly dueAt: Date | null
}

function drawAuthorities(authorities: readonly AuthorityStatus[], now: Date, screen: Screen): string[] {
  const columns = certificateColumns<AuthorityStatus>({
    title: 'AUTHORITY',
    nameOf: ({ path }) => path,
    rowOf: (row) => row,
    now,
    screen,
  }).filter(({ title }) => title !== 'NAMES')
  const below = (row: AuthorityStatus, hidden: readonly Column<AuthorityStatus>[], width: number): string[] => [
    ...drawReasons(untold(row, 'authority', now), row.state, width, screen),
    ...(authorities.length <= rowsInFull && row.certificate ? drawHidden(row, hidden, width, screen) : []),
    ...othersOf(row, now).flatMap((line) => wrap(printable(line, screen), width)),
  ]
  return drawTable(authorities, columns, below, screen)
}

function drawTargets(targets: readonly TargetStatus[], now: Date, screen: Screen): string[] {
  if (targets.length === 0) return ['no targets']
  const rowOf = (row: TargetStatus): Row => ({ ...row, certificate: row.leaf })
  const columns = certificateColumns<TargetStatus>({
    title: 'TARGET',
    nameOf: ({ path }) => path,
    rowOf,
    now,
    screen,
  })
  const below = (row: TargetStatus, hidden: readonly Column<TargetStatus>[], width: number): string[] => [
    ...drawReasons(untold(row, 'target', now), row.state, width, screen),
    ...(targets.length <= rowsInFull && row.leaf ? drawHidden(row, hidden, width, screen) : []),
  ]
  return drawTable(targets, columns, below, screen)
}

function certificateColumns<T>(of: {
  readonly title: string
  readonly nameOf: (row: T) => string
  readonly rowOf: (row: T) => Row
  readonly now: Date
  readonly screen: Screen
}): Column<T>[] {
  const { title, nameOf, rowOf, now, screen } = of
  const text = (show: (certificate: CertificateStatus, row: Row) => string): Column<T>['cell'] => {
    return (row) => {
      const { certificate } = rowOf(row)
      return certificate ? printable(show(certificate, rowOf(row)), screen) : '-'
    }
  }
  return [
    {
      title: 'STATE',
      cell: (row) => rowOf(row).state,
      paint: (cell, row) => paintState(cell, rowOf(row).state, screen),
    },
    { title, cell: (row) => printable(nameOf(row), screen), least: 18, paint: (cell) => screen.paint.bold(cell) },
    { title: 'ENDS', cell: text((certificate) => instantIn(certificate)(certificate.notAfter)) },
    { title: 'LEFT', cell: text(({ notAfter }) => roughly(notAfter.getTime() - now.getTime())) },
    { title: 'DUE', cell: text((certificate, { dueAt }) => (dueAt ? instantIn(certificate)(dueAt) : '-')) },
    { title: 'KEY', cell: text(({ key }) => key) },
    { title: 'SHA256', cell: text(({ sha256 }) => sha256.slice(0, 16)) },
    { title: 'NAMES', cell: text(({ names }) => names.join(', ') || '-'), least: 16, cut: 'end' },
    { title: 'SUBJECT', cell: text(({ subject }) => subject || '-'), least: 24, cut: 'end', spare: true },
  ]
}

function drawEndpoints(endpoints: readonly SurveyResult[], now: Date, screen: Screen): string[] {
  if (endpoints.length === 0) return []
  const leaf = (show: (certificate: SurveyResult['chain'][number]) => string): Column<SurveyResult>['cell'] => {
    return ({ chain: [certificate] }) => (certificate ? show(certificate) : '-')
  }
  const columns: Column<SurveyResult>[] = [
    { title: 'STATE', cell: stateOfEndpoint, paint: (cell, row) => paintState(cell, stateOfEndpoint(row), screen) },
    { title: 'ENDPOINT', cell: (row) => printable(placeOfEndpoint(row), screen), least: 20 },
    { title: 'TARGET', cell: ({ target }) => printable(target, screen), least: 12 },
    { title: 'ENDS', cell: leaf((certificate) => instantIn(certificate)(certificate.notAfter)) },
    { title: 'LEFT', cell: leaf(({ notAfter }) => roughly(notAfter.getTime() - now.getTime())) },
    { title: 'SHA256', cell: leaf(({ sha256 }) => sha256.slice(0, 16)) },
    { title: 'PROTOCOL', cell: ({ protocol }) => protocol ?? '-' },
  ]
  const below = (row: SurveyResult, _hidden: readonly Column<SurveyResult>[], width: number): string[] =>
    drawReasons(reasonsOfEndpoint(row), stateOfEndpoint(row), width, screen)
  return drawTable(endpoints, columns, below, screen)
}

/** The reasons that state and dates do not tell already. */
function untold({ attention }: Pick<Row, 'attention'>, what: 'authority' | 'target', now: Date): string[] {
  return attention
    .filter((entry) => {
      if (entry.code === 'due') return entry.part !== 'certificate'
      return entry.code !== 'expired' && entry.code !== 'missing'
    })
    .map((entry) => describeAttention(entry, what, now))
}

function drawReasons(texts: readonly string[], state: State | EndpointState, width: number, screen: Screen): string[] {
  return texts.flatMap((text) => wrap(printable(text, screen), width)).map((line) => paintState(line, state, screen))
}

/** What found no column, on lines of its own. */
function drawHidden<T>(row: T, hidden: readonly Column<T>[], width: number, screen: Screen): string[] {
  const texts = hidden.map(({ title, cell }) => `${title.toLowerCase()} ${cell(row)}`)
  return texts.length === 0 ? [] : wrap(texts.join(', '), width).map((line) => screen.paint.dim(line))
}

function livesOf(
  authorities: readonly AuthorityStatus[],
  targets: readonly TargetStatus[],
  screen: Screen,
): LabelledLife[] {
  const lifeOf = (
    path: string,
    certificate: CertificateStatus | null,
    dueAt: Date | null,
  ): Omit<LabelledLife, 'root'>[] =>
    certificate
      ? [{ label: printable(path, screen), notBefore: certificate.notBefore, notAfter: certificate.notAfter, dueAt }]
      : []
  return [
    ...authorities.flatMap(({ path, certificate, dueAt }) => lifeOf(path, certificate, dueAt)).map(asRoot(true)),
    ...targets.flatMap(({ path, leaf, dueAt }) => lifeOf(path, leaf, dueAt)).map(asRoot(false)),
  ]
}

function asRoot(root: boolean): (life: Omit<LabelledLife, 'root'>) => LabelledLife {
  return (life) => ({ ...life, root })
}

// --------------------------------------------------------------------------------------------------------------- advice

/** What to run, or to do where that is empty, and what it is good for. */
interface Advice {
  readonly run: string
  readonly why: string
}

/** One for each kind of trouble, the worst first. */
function adviceFor({ authorities, targets, endpoints }: FleetStatus, command: string): Advice[] {
  const has = (rows: readonly Pick<Row, 'attention'>[], ...codes: readonly AttentionCode[]): boolean =>
    rows.some(({ attention }) => attention.some(({ code }) => codes.includes(code)))
  const hints = [...authorities, ...targets].flatMap(({ attention }) =>
    attention.flatMap((entry) => (entry.code === 'unreadable' ? entry.error.hints : [])),
  )
  const broken = targets.find((target) => has([target], 'damaged'))
  const refused = targets.find((target) => has([target], 'unusable'))
  const old = endpoints.find((endpoint) => stateOfEndpoint(endpoint) === 'old-leaf')
  const subcommand = (name: string): string => command.replace(/^certgen/, `certgen ${name}`)
  return [
    ...[...new Set(hints)].map((why) => ({ run: '', why })),
    ...(has(authorities, 'damaged')
      ? [{ run: '', why: 'restore the authority from a backup before anything else' }]
      : []),
    ...(has(authorities, 'missing') ? [adviceWithoutAuthority(targets, command)] : []),
    ...(broken
      ? [{ run: `${subcommand('rollback')} ${shellWord(broken.name)}`, why: 'back to the generation before, if any' }]
      : []),
    ...(refused
      ? [{ run: `certgen validate ${shellWord(refused.path)}`, why: 'everything that is wrong with it' }]
      : []),
    ...(has(authorities, 'expired')
      ? [{ run: `${command} --overwrite`, why: 'a new authority and new leaves' }]
      : has(authorities, 'due', 'unfinished') || has(targets, 'expired', 'missing', 'due', 'drift')
        ? [{ run: `${command} --renew`, why: 'renews what is due, missing or not as configured' }]
        : []),
    ...(has(targets, 'unfinished', 'undelivered')
      ? [{ run: command, why: 'finishes what is unfinished, and follows up' }]
      : []),
    ...(old ? [{ run: '', why: `reload the server at ${old.endpoint}: its files are newer than what it serves` }] : []),
  ]
}

function adviceWithoutAuthority(targets: readonly TargetStatus[], command: string): Advice {
  return targets.some(({ leaf }) => leaf !== null)
    ? { run: '', why: 'restore the authority from a backup: nobody would trust a new one' }
    : { run: command, why: 'makes an authority; or name the right directory with --dir' }
}

function drawAdvice(advice: readonly Advice[], screen: Screen): string[] {
  const longest = advice.reduce((most, { run }) => Math.max(most, widthOf(printable(run, screen))), 0)
  return advice.flatMap(({ run, why }) => {
    const text = printable(why, screen)
    if (run === '') return wrap(text, screen.width)
    const line = `${fit(printable(run, screen), longest, screen)}  ${text}`
    return widthOf(line) <= screen.width ? [line] : [printable(run, screen), `  ${text}`]
  })
}
