-- A room for who runs things: what failed for good is told there.
ALTER TABLE matrix_rooms DROP CONSTRAINT matrix_rooms_purpose_check;
ALTER TABLE matrix_rooms ADD CONSTRAINT matrix_rooms_purpose_check CHECK (purpose IN ('space', 'approvals', 'operations'));
