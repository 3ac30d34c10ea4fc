/** Rollouts as the fleet object stores them; `docs/contract.md` has the tables. */
import type { ArmName } from '../pool/contract.ts'
import type { ArmChange } from './contract.ts'
import type { HeldRollout } from './rollout.ts'

/** So many changes of shares are remembered. */
const KEPT_CHANGES = 1_000
/** And so many of a model's are told. */
const TOLD_CHANGES = 20

type RolloutRow = {
  model: string
  arm: string
  state: HeldRollout['state']
  share: number
  steps: string
  step: number
  every_ms: number
  next_at: number | null
  since: number
  operator: string | null
  why: string | null
}
type ChangeRow = { [K in keyof ArmChange]: ArmChange[K] }

const COLUMNS = 'model, arm, state, share, steps, step, every_ms, next_at, since, operator, why'

/** A rollout, and the model's arms in the file that it was made for. */
export interface StoredRollout {
  readonly rollout: HeldRollout
  /** Their {@link fingerprintOf}. */
  readonly arms: string
}

export class RolloutStore {
  readonly #sql: SqlStorage

  /** Makes the tables. */
  constructor(sql: SqlStorage) {
    this.#sql = sql
    sql.exec(`
      CREATE TABLE IF NOT EXISTS rollouts (
        model TEXT NOT NULL, arm TEXT NOT NULL, state TEXT NOT NULL, share REAL NOT NULL,
        steps TEXT NOT NULL, step INTEGER NOT NULL, every_ms INTEGER NOT NULL, next_at INTEGER,
        since INTEGER NOT NULL, operator TEXT, why TEXT, arms TEXT NOT NULL,
        PRIMARY KEY (model, arm)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS arm_changes (
        number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, model TEXT NOT NULL,
        arm TEXT NOT NULL, event TEXT NOT NULL, share REAL, operator TEXT, why TEXT);
      CREATE TABLE IF NOT EXISTS revision (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);
    `)
  }

  all(): readonly StoredRollout[] {
    return this.#sql
      .exec<RolloutRow & { arms: string }>(
        `SELECT ${COLUMNS}, arms FROM rollouts ORDER BY model, arm`,
      )
      .toArray()
      .map(({ arms, ...row }) => ({ arms, rollout: rolloutIn(row) }))
  }

  put({ rollout, arms }: StoredRollout): void {
    const { model, arm, state, share, step, everyMs, nextAt, since, by, why } = rollout
    const steps = JSON.stringify(rollout.steps)
    const row = [model, arm, state, share, steps, step, everyMs, nextAt, since, by, why, arms]
    this.#sql.exec(
      `INSERT OR REPLACE INTO rollouts (${COLUMNS}, arms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      ...row,
    )
  }

  drop({ model, arm }: ArmName): void {
    this.#sql.exec('DELETE FROM rollouts WHERE model = ? AND arm = ?', model, arm)
  }

  /** 0 before the first change. */
  get revision(): number {
    const [row] = this.#sql.exec<{ revision: number }>('SELECT revision FROM revision').toArray()
    return row?.revision ?? 0
  }

  set revision(revision: number) {
    this.#sql.exec('INSERT OR REPLACE INTO revision (id, revision) VALUES (1, ?)', revision)
  }

  /** Writes down what was changed, by whom and why. */
  note({ at, model, arm, event, share, by, why }: ArmChange & ArmName): void {
    const row = [at, model, arm, event, share, by, why]
    const { number } = this.#sql
      .exec<{ number: number }>(
        `INSERT INTO arm_changes (at, model, arm, event, share, operator, why)
          VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING number`,
        ...row,
      )
      .one()
    this.#sql.exec('DELETE FROM arm_changes WHERE number <= ?', number - KEPT_CHANGES)
  }

  /** A model's last changes, newest first. */
  changes(model: string): readonly ArmChange[] {
    return this.#sql
      .exec<ChangeRow>(
        `SELECT at, arm, event, share, operator AS "by", why FROM arm_changes
          WHERE model = ? ORDER BY number DESC LIMIT ?`,
        model,
        TOLD_CHANGES,
      )
      .toArray()
  }
}

const rolloutIn = ({
  steps,
  every_ms: everyMs,
  next_at: nextAt,
  operator: by,
  ...row
}: RolloutRow): HeldRollout => ({
  ...row,
  steps: JSON.parse(steps) as number[],
  everyMs,
  nextAt,
  by,
})
