-- A tool that shows our navigation asks for it by a person's user name.
CREATE INDEX principals_username ON principals (username);
