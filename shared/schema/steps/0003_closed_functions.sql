-- Version 3. Functions are closed to PUBLIC, and granted by role; the parts that follow grant them.
-- Those which are made from here on are the owner's alone until a grant names a role.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
