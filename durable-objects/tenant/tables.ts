/** A table as this release has it. */
export interface Table {
  readonly name: string
  /** In SQL, without the primary key. */
  readonly columns: Readonly<Record<string, string>>
  /** Columns of the primary key, in order. */
  readonly key: readonly string[]
  /** For columns that an earlier release has not: what its lines have there, in SQL. */
  readonly missing?: Readonly<Record<string, string>>
}

type Column = { name: string; pk: number }

/**
 * Makes a table where there is none. One that an earlier release has made with another primary key, which
 * SQLite cannot change, is made anew with the lines it has; any other stays.
 */
export function makeTable(sql: SqlStorage, table: Table): void {
  const { name, columns, key, missing = {} } = table
  const there = sql.exec<Column>(`PRAGMA table_info(${name})`).toArray()
  const itsKey = there.filter(({ pk }) => pk > 0).toSorted((a, b) => a.pk - b.pk)
  if (there.length === 0) create(sql, name, table)
  else if (itsKey.map((column) => column.name).join() !== key.join()) {
    const anew = `${name}_anew`
    const known = new Set(there.map((column) => column.name))
    const names = Object.keys(columns)
    const values = names.map((column) => (known.has(column) ? column : (missing[column] ?? 'NULL')))
    create(sql, anew, table)
    sql.exec(`INSERT OR IGNORE INTO ${anew} (${names.join()}) SELECT ${values.join()} FROM ${name}`)
    sql.exec(`DROP TABLE ${name}`)
    sql.exec(`ALTER TABLE ${anew} RENAME TO ${name}`)
  }
}

function create(sql: SqlStorage, name: string, { columns, key }: Table): void {
  const lines = Object.entries(columns).map(([column, type]) => `${column} ${type}`)
  sql.exec(
    `CREATE TABLE ${name} (${[...lines, `PRIMARY KEY (${key.join()})`].join()}) WITHOUT ROWID`,
  )
}
